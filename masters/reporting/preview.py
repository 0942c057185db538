"""What Masters understands of the first rows of every source, before a run: on the screen, or as a page with thumbnails."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
from PIL import Image
from rich.console import Console
from rich.text import Text

from masters.config.prepare import Source
from masters.data.image_files import ImageReader
from masters.data.images import upright_rgb
from masters.data.mixing import mix_words
from masters.data.rejects import RejectError, SkipRow
from masters.data.rows import RawRow, check_row, row_key
from masters.data.sources.readers import Part, parts_of, read_part
from masters.families import Family

_THUMBNAIL = 320
_CHECKED = 5
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""Characters that would steer the terminal, as they are written in Python."""


@dataclass(frozen=True)
class Shown:
    """One row as it was understood.

    Attributes:
        where: file and place in it.
        row: how rejects would call it.
        sample: as in the samples table, without position and levels; empty for a reject.
        sizes: (width, height) of each image in pixels.
        thumbnails: data URIs of the images, small.
        reject: reason and detail, or None.
    """

    where: str
    row: str
    sample: dict[str, Any] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    thumbnails: list[str] = field(default_factory=list)
    reject: tuple[str, str] | None = None


@dataclass(frozen=True)
class Look:
    """The first rows of a source; where names of files tell splits apart, the first rows of each."""

    source: Source
    files: int
    rows: list[Shown]


def look_at(source: Source, max_pixels: int, rows: int, token_env: str, family: Family | None = None) -> Look:
    """Read the first rows of a source; `family` is the student's, where it is known.

    Raises:
        ValueError: where the source cannot be read at all, with its name and the remedy.
    """
    parts, shown = parts_of(source, token_env), []
    for split in dict.fromkeys(part.split for part in parts):
        mine = [part for part in parts if part.split == split]
        try:
            shown += _first_rows(source, mine, max_pixels, rows, token_env, family)
        except OSError as error:  # an object store with images that does not answer
            raise ValueError(f"prepare.sources[{source.name}]: {error}. Try again, or check the address.") from error
    return Look(source, len({part.name for part in parts}), shown)


def check_first_rows(source: Source, max_pixels: int, token_env: str, family: Family | None = None) -> set[str]:
    """The splits of a source's first rows; `family` is the student's, where it is known.

    Raises:
        ValueError: where it cannot be read, has no row, or none of its first rows can be used.
    """
    rows = look_at(source, max_pixels, _CHECKED, token_env, family).rows
    where = f"prepare.sources[{source.name}]"
    if not rows:
        raise ValueError(f"{where}: gives no row. Name data that has rows, or remove the source.")
    if all(row.reject for row in rows):
        reason, detail = rows[0].reject or ("", "")
        raise ValueError(
            f"{where}: none of its first rows can be used; {rows[0].row}: {': '.join(filter(None, (reason, detail)))}. "
            "Mend the data, or name their fields in the recipe; `masters data show` shows what is understood."
        )
    return {row.sample["split"] for row in rows if not row.reject}


def _first_rows(
    source: Source, parts: list[Part], max_pixels: int, count: int, token_env: str, family: Family | None
) -> list[Shown]:
    """Of a first file with too few rows, the next one helps out."""
    reader, shown = ImageReader(source, max_pixels), []
    for part in parts:
        for read in read_part(source, part, (0, 0), token_env):
            understood = (_understood(row, read.where, source, reader, family) for row in read.rows)
            shown += [row for row in understood if row]
            if len(shown) >= count:
                return shown[:count]
    return shown


def _understood(row: RawRow, where: str, source: Source, reader: ImageReader, family: Family | None) -> Shown | None:
    """None for a row that the recipe leaves out."""
    key = row_key(row, where)
    try:
        sample, images = check_row(row, source, reader, family)
    except SkipRow:
        return None
    except RejectError as reject:
        return Shown(where, key, reject=(reject.reason, reject.detail))
    sizes = [(image.width, image.height) for image in images]
    return Shown(where, key, sample, sizes, [_thumbnail(image.content) for image in images])


def _thumbnail(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as opened:
        image = upright_rgb(opened)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()


def tell_rows(look: Look, console: Console | None = None) -> None:
    """Print the rows of a source."""
    console = console or Console(highlight=False, soft_wrap=True, emoji=False)
    named = f", {look.files:,} file{'s' if look.files != 1 else ''}" if getattr(look.source, "path", "") else ""
    mix = f", {words}" if (words := mix_words(look.source)) else ""
    console.print(Text.assemble((look.source.name, "bold"), f"  {look.source.type}{named}{mix}"))
    for row in look.rows:
        console.print(Text.assemble("  ", (row.where, "bold"), *(f"   {word}" for word in _about(row))))
        for name, text in _lines(row):
            indented = text.translate(_CONTROL).replace("\n", "\n" + " " * 14)
            console.print(Text(f"    {name:<9} {indented}"))
    if not look.rows:
        console.print("  no row")


def _about(row: Shown) -> list[str]:
    """What stands beside a row's place: its split, and its id where it has one."""
    words = [row.sample.get("split", ""), "" if row.row == row.where else f"id {row.row.translate(_CONTROL)}"]
    return [word for word in words if word]


def _lines(row: Shown) -> Iterator[tuple[str, str]]:
    if row.reject:
        yield "rejected", ": ".join(filter(None, row.reject))
        return
    sample = row.sample
    yield "images", ", ".join(f"{width} x {height}" for width, height in row.sizes) or "none"
    if sample["system"]:
        yield "system", sample["system"]
    for number, turn in enumerate(sample["history"]):
        yield ("answered" if number % 2 else "asked"), turn
    yield "question", sample["question"]
    others = f"   or: {' | '.join(sample['answers'][1:])}" if len(sample["answers"]) > 1 else ""
    yield "answer", f"{sample['answer']}{others}   (answer type: {sample['answer_type']})"
    if sample["options"]:
        yield "options", " | ".join(sample["options"])
    for note in sample["notes"]:
        yield "note", note


def preview_page(looks: list[Look]) -> str:
    """The same as one HTML page that opens offline."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files("masters.reporting") / "templates" / "preview.html.j2").read_text())
    return template.render(looks=looks, about=_about, lines=_lines, mix=mix_words)
