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
from masters.data.rejects import RejectError, SkipRow
from masters.data.rows import check_row, row_key
from masters.data.sources.readers import Part, parts_of, read_part

_THUMBNAIL = 320
_CHECKED = 5


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
    """The first rows of a source: those of the first file of each split that names of files tell apart."""

    source: Source
    files: int
    rows: list[Shown]


def look_at(source: Source, max_pixels: int, rows: int, token_env: str) -> Look:
    """Read the first rows of a source.

    Raises:
        ValueError: where the source cannot be read at all, with its name and the remedy.
    """
    parts = parts_of(source, token_env)
    shown = [row for part in _first_of_splits(parts) for row in _first_rows(source, part, max_pixels, rows, token_env)]
    return Look(source, len({part.name for part in parts}), shown)


def check_first_rows(source: Source, max_pixels: int, token_env: str) -> None:
    """Raise ValueError where a source cannot be read, has no row, or none of its first rows can be used."""
    rows = look_at(source, max_pixels, _CHECKED, token_env).rows
    where = f"prepare.sources[{source.name}]"
    if not rows:
        raise ValueError(f"{where}: gives no row. Name data that has rows, or remove the source.")
    if all(row.reject for row in rows):
        reason, detail = rows[0].reject or ("", "")
        raise ValueError(
            f"{where}: none of its first rows can be used; {rows[0].row}: {': '.join(filter(None, (reason, detail)))}. "
            "`masters data show` shows them."
        )


def _first_of_splits(parts: list[Part]) -> list[Part]:
    return list({part.split: part for part in reversed(parts)}.values())[::-1]


def _first_rows(source: Source, part: Part, max_pixels: int, count: int, token_env: str) -> list[Shown]:
    reader, shown = ImageReader(source, max_pixels), []
    for read in read_part(source, part, (0, 0), token_env):
        for row in read.rows:
            key = row_key(row, read.where)
            try:
                sample, images = check_row(row, source, reader)
            except SkipRow:
                continue
            except RejectError as reject:
                shown.append(Shown(read.where, key, reject=(reject.reason, reject.detail)))
                continue
            sizes = [(image.width, image.height) for image in images]
            shown.append(Shown(read.where, key, sample, sizes, [_thumbnail(image.content) for image in images]))
        if len(shown) >= count:
            break
    return shown[:count]


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
    named = f"{look.files:,} file{'s' if look.files != 1 else ''}" if getattr(look.source, "path", "") else ""
    console.print(Text.assemble((look.source.name, "bold"), f"  {look.source.type}  {named}".rstrip()))
    for row in look.rows:
        console.print(Text.assemble("  ", (row.row, "bold"), f"  {row.sample.get('split', '')}  {row.where}"))
        for name, text in _lines(row):
            indented = text.replace("\n", "\n" + " " * 14)
            console.print(Text(f"    {name:<9} {indented}"))
    if not look.rows:
        console.print("  no row")


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
    yield "answer", f"{sample['answer']}   ({sample['answer_type']}){others}"
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
    return template.render(looks=looks, lines=_lines)
