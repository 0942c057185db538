"""What a file is, by its first bytes; and for what is not read: what it is, and what to do."""

import json
import re
import tarfile
from collections.abc import Mapping

from masters.config.prepare import FileKind
from masters.data.sources.json_files import DEPTHS, LOOKED_AT, STRINGS_AND_BRACKETS
from masters.data.sources.records import packing, reading, unpacked
from masters.data.storage import Storage

_HEAD = 1 << 20
_SUFFIXES: dict[str, FileKind] = {
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "arrow": "arrow",
    "tsv": "tsv",
    "csv": "tsv",
    "tar": "webdataset",
    "tgz": "webdataset",
}
_LISTS = {"data", "rows", "records", "samples", "examples", "instances", "items", "entries", "questions", "annotations"}
_LISTS |= {"results", "train", "validation", "val", "test"}
_FETCH = "Fetch it again"
_UNPACK = "Unpack it, and name the files in it"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "Run `git lfs pull` in its folder"),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "packed by xz", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"%PDF", "a PDF", "Name a file of records"),
    (b"SQLite format 3", "an SQLite database", "Write its table as Parquet or CSV"),
    (b"\x89HDF", "an HDF5 file", "Write it as Parquet or JSON lines"),
    (b"\x93NUMPY", "a NumPy array", "Write it as Parquet or JSON lines"),
    (b"\x89PNG", "an image", "Name a file of records"),
    (b"\xff\xd8\xff", "an image", "Name a file of records"),
    (b"GIF8", "an image", "Name a file of records"),
)
_UTF_16 = ("UTF-16", "Write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW")


def suffix_kind(name: str) -> FileKind | None:
    """What the suffix says, below .gz or .zst; None for a suffix that is no data's. A .json may hold lines."""
    parts = name.rpartition("/")[2].lower().split(".")[1:]
    if len(parts) > 1 and parts[-1] in ("gz", "zst", "zstd"):
        parts.pop()
    return _SUFFIXES.get(parts[-1]) if parts else None


def kind_of(root: Storage, name: str) -> FileKind:
    """What the file is: by its first bytes, and where they do not say it, by its suffix.

    Raises:
        ValueError: for a file that is not read, with what it is and what to do.
    """
    with reading(root, name):
        with root.open(name) as raw:
            packed = packing(raw.read(4))
        with unpacked(root, name) as stream:
            head = stream.read(_HEAD)
            whole = not stream.read(1)
    try:
        kind = _magic_kind(head) or _text_kind(head, whole, suffix_kind(name))
        if packed and kind in ("parquet", "arrow"):
            raise _ForeignError(f"{kind} packed by {packed}", "Unpack it")
    except _ForeignError as error:
        what, remedy = error.args
        raise ValueError(f"{root.address(name)}: is {what}. {remedy}.") from None
    return kind


class _ForeignError(Exception):
    """What a file that is not read is, and what to do."""


def _magic_kind(head: bytes) -> FileKind | None:
    """Of files that are no text; None for text. Raises _ForeignError."""
    if not head.strip():
        raise _ForeignError("empty", _FETCH)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise _ForeignError(what, remedy)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _ForeignError(*_UTF_16)
    if not head.strip(b"\0"):
        raise _ForeignError("nothing but zero bytes", f"A download may have stopped: {_FETCH[0].lower()}{_FETCH[1:]}")
    if _begins_as_tar(head):
        return "webdataset"
    sample = head[:4096]
    if b"\0" in sample:
        zeros = sample.count(0) / len(sample)
        if zeros > 0.3 and min(sample[::2].count(0), sample[1::2].count(0)) < 0.1 * sample.count(0):
            raise _ForeignError(*_UTF_16)
        raise _ForeignError("binary, of no kind that is known", "Write it as Parquet or JSON lines")
    return None


def _begins_as_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _text_kind(head: bytes, whole: bool, suffix: FileKind | None) -> FileKind:
    """Of text; `whole`: whether `head` is all of the file. Raises _ForeignError."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype|html|\?xml)", text[:20], re.IGNORECASE):
        raise _ForeignError(
            "a page of HTML or XML, not data", "Its address may have led to a login: fetch the data itself"
        )
    if text.startswith("["):
        return "json"
    lines = [line for line in text.split("\n") if line.strip()]
    if _some_are_objects(lines if whole or len(lines) < 2 else lines[:-1]):
        if whole and len(lines) == 1:
            _check_object(text)
        return "jsonl"
    if suffix == "tsv":
        return "tsv"
    if text.startswith("{"):
        if not whole and len(lines) == 1:
            _check_object(text)
            return "jsonl"  # of long lines
        raise _ForeignError(*_pretty(text))
    begins = f"it begins with {text[:40]!r}"
    if suffix is None:
        raise _ForeignError(f"of no kind that is known: {begins}", "Name its kind in `format`")
    raise _ForeignError(
        f"none of what its name says: {begins}", "Write JSON lines, a JSON array, Parquet, Arrow, TSV or a tar"
    )


def _some_are_objects(lines: list[str]) -> bool:
    for line in lines[:LOOKED_AT]:
        try:
            value = json.loads(line)
            if value and isinstance(value, Mapping):  # {} stands on lines of its own in indented JSON
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _check_object(text: str) -> None:
    """Refuse one object that holds all records; anything else may be one record. Raises _ForeignError."""
    outline = _outline(text)
    for key, value in outline:
        if key in _LISTS and value == "[{":
            raise _ForeignError(
                f"one JSON object, with the records in its list `{key}`", f"Write them out: jq -c '.{key}[]' FILE > NEW"
            )
    if len(outline) > 1 and all(value == "{" for _, value in outline):
        raise _ForeignError(
            f"one JSON object, with the records under their ids, such as {outline[0][0]!r}",
            "Write them out: jq -c 'to_entries[] | {id: .key} + .value' FILE > NEW",
        )


def _pretty(text: str) -> tuple[str, str]:
    """What a text is that begins as an object but has none on a line, and what to do."""
    _check_object(text)
    outline = _outline(text)
    if not outline:
        return "neither JSON lines nor a JSON array: none of its lines is an object", "Write one object a line"
    return (
        f"JSON of objects over several lines: the first has {', '.join(key for key, _ in outline[:5])}",
        "Write one object a line: jq -c . FILE > NEW",
    )


def _outline(text: str) -> list[tuple[str, str]]:
    """The keys of the object that the text begins with, and how their values begin: "[{", "{" or otherwise ""."""
    depth, found = 0, []
    for token in STRINGS_AND_BRACKETS.finditer(text):
        depth += DEPTHS.get(token.group(), 0)
        if depth == 0:
            break
        value = re.compile(r"\s*:\s*(\[\s*\{|\{|)").match(text, token.end()) if depth == 1 else None
        if value and token.group().startswith('"'):
            found.append((token.group()[1:-1], "".join(value.group(1).split())))
    return found
