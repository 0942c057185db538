"""Under which licence a model is, as its own folder or its page says: a student inherits that of its base."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masters.config.yaml_files import parse_yaml
from masters.families.released import RELEASED
from masters.models.exported import CARD

_PERMISSIVE = {
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense", "cc0-1.0",
    "cc-by-4.0", "cc-by-3.0", "ecl-2.0", "afl-3.0", "artistic-2.0", "bsl-1.0", "ms-pl", "ncsa", "postgresql", "wtfpl",
}  # fmt: skip
_TEXTS = (
    (r"apache license\s+version 2\.0", "apache-2.0", ""),
    (r"mit license", "mit", ""),
    (r"qwen research license", "other", "qwen-research"),
    (r"(tongyi )?qwen license", "other", "qwen"),
)
"""How licences begin, and what the hub calls them."""

_NAMES = {"qwen research": ("other", "qwen-research"), "qwen": ("other", "qwen")}
_LINES = 8


@dataclass(frozen=True)
class Licence:
    """A licence, in the words of the hub.

    Attributes:
        key: the hub's identifier; `other` where it has none.
        name: of one that is `other`.
        link: to its text, or a file of the folder.
        source: where this was found.
    """

    key: str
    name: str = ""
    link: str = ""
    source: str = ""

    @property
    def permissive(self) -> bool:
        """Whether it is known to allow use and sale with little more than naming the source."""
        return self.key in _PERMISSIVE

    def __str__(self) -> str:
        return self.name if self.key == "other" and self.name else self.key

    def metadata(self) -> dict[str, str]:
        """For the front matter of a card."""
        named = {"license": self.key, "license_name": self.name, "license_link": self.link}
        return {key: value for key, value in named.items() if value}


def licence_of(path: str | Path) -> Licence | None:
    """The licence of a model folder, or of a name on the hub; None where nothing tells.

    Of a folder its card's front matter counts, then its file LICENSE; of a name the table of released models.
    """
    folder = Path(path)
    if folder.is_dir():
        return _of_card(folder) or _of_text(folder)
    name = str(path).partition("@")[0]
    known = RELEASED.get(name.lower())
    if known is None or not known.licence:
        return None
    key, named = _NAMES.get(known.licence.lower(), (known.licence.lower(), ""))
    return Licence(key, named, source=f"what Masters knows of {known.name}; read its page")


def keep_licence(base: Path, target: Path) -> None:
    """Write the beginning of a student's card: the licence of its base, which may be out of reach when scores are known."""
    licence = licence_of(base)
    fields = "".join(f"{key}: {json.dumps(value)}\n" for key, value in (licence.metadata() if licence else {}).items())
    told = "A student that was not evaluated yet: `masters report` writes its card."
    (target / CARD).write_text(f"---\n{fields}library_name: transformers\n---\n\n{told}\n", encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    """The fields at the head of a card; none where there are none, or where they cannot be read."""
    head = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    try:
        fields = parse_yaml(head[1], CARD) if head else None
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _of_card(folder: Path) -> Licence | None:
    card = folder / CARD
    if not card.is_file():
        return None
    fields = front_matter(card.read_text(encoding="utf-8", errors="replace"))
    key = fields.get("license")
    if not isinstance(key, str):
        return None
    name, link = (str(fields.get(field) or "") for field in ("license_name", "license_link"))
    return Licence(key.lower(), name, link, "the card of its base")


def _of_text(folder: Path) -> Licence | None:
    found = sorted(file for file in folder.iterdir() if re.fullmatch(r"licen[sc]e(\.(txt|md))?", file.name.lower()))
    if not found:
        return None
    lines = found[0].read_text(encoding="utf-8", errors="replace").lower().split("\n")
    beginning = re.sub(r"\s+", " ", " ".join([line for line in lines if line.strip()][:_LINES]))
    for pattern, key, name in _TEXTS:
        if re.search(pattern, beginning):
            return Licence(key, name, found[0].name, f"the file {found[0].name} of its base")
    return Licence("other", "", found[0].name, f"the file {found[0].name} of its base")
