"""Readers: from a source of the recipe to raw rows, part by part. A reader keeps going past a row that it cannot make sense of.

A part is a file, or some row groups of one; parts are read in parallel, and each can be read on from any record. A reader of
your own is a function that yields `masters.data.rows.RawRow` or mappings of its fields; name it in the recipe as
`module:function`. It is one part, and reading on means calling it again and skipping what it yielded before.
"""

import importlib
import linecache
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from typing import Any

from masters.config.prepare import (
    ChartsSource,
    CustomSource,
    FileKind,
    FilesSource,
    HubSource,
    RecordSource,
    Source,
)
from masters.data.rows import RawRow
from masters.data.sources import files, hub
from masters.data.sources.charts import chart_rows
from masters.data.sources.dialects import check_fields, rows_of
from masters.data.sources.files import Mark
from masters.data.splits import file_splits
from masters.data.storage import Storage

_LISTERS, _CHECKED = 16, 64
_ROW_FIELDS = {field.name for field in fields(RawRow)}


@dataclass(frozen=True)
class Part:
    """What is read in one go.

    Attributes:
        file: number of the file in its source, from 0; for the hub, of the split.
        piece: number in the file, from 0.
        name: of the file below the source's folder; for the hub, of the split; empty where there are no files.
        kind: of the file; empty where there are no files.
        split: what names of files and folders say about the split; empty where they say nothing.
        revision: of a data set on the hub, its commit.
        root: folder or address that `name` lies below, for files.
        shown: what errors and rejects call the file; empty where it is the only one.
    """

    file: int = 0
    piece: int = 0
    name: str = ""
    kind: str = ""
    split: str = ""
    revision: str = ""
    root: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Read:
    """The rows of one record, where it stands, and where reading goes on behind it."""

    rows: list[RawRow]
    where: str
    next: Mark


def parts_of(source: Source, token_env: str) -> list[Part]:
    """The parts of a source in order.

    Raises:
        ValueError: where the source as a whole cannot be read, with the field that names it.
    """
    with named(source):
        if isinstance(source, FilesSource):
            return _file_parts(source)
        if isinstance(source, HubSource):
            revision = hub.resolve_revision(source, token_env)
            shards = dict(hub.hub_parts(source, revision, token_env))
            splits = file_splits(list(shards), source.splits, _explicit(source))
            return [
                Part(number, piece, name, "", split, revision, shown=name)
                for number, (name, split) in enumerate(splits.items())
                for piece in range(shards[name])
            ]
        return [Part()]


def read_part(source: Source, part: Part, start: Mark, token_env: str) -> Iterator[Read]:
    """The records of a part from a place on, in order.

    Raises:
        ValueError: where the part cannot be read, with source, file and remedy.
    """
    with named(source):
        if isinstance(source, ChartsSource):
            rows = islice(_charts(source), start[1], None)
            yield from (Read([row], f"row {row.number}", (0, row.number + 1)) for row in rows)
        elif isinstance(source, CustomSource):
            yield from _custom(source, start[1])
        elif isinstance(source, FilesSource):
            root = Storage(part.root)
            records = files.records(root, part.name, part.kind, part.piece, start)  # type: ignore[arg-type]  # FileKind
            folder = root.folder(part.name.rpartition("/")[0]).uri if "/" in part.name else root.uri
            yield from _rows(source, part, records, folder)
        else:
            records = hub.hub_records(source, part.revision, token_env, part.name, part.piece, start)
            yield from _rows(source, part, records, source.path)


def _file_parts(source: FilesSource) -> list[Part]:
    root, names = files.list_files(source.path, source.format)
    splits = file_splits(names, source.splits, _explicit(source))

    def look(name: str) -> tuple[FileKind, int]:
        kind = source.format
        if kind in (None, "json", "jsonl"):  # a file called .json may hold lines
            kind = files.kind_of(root, name)
        return kind, files.pieces(root, name, kind)

    with ThreadPoolExecutor(_LISTERS) as threads:  # footers of many files, perhaps in an object store
        looked = list(threads.map(look, splits))
    return [
        Part(number, piece, name, kind, splits[name], root=root.uri, shown=name if len(names) > 1 else "")
        for number, (name, (kind, pieces)) in enumerate(zip(splits, looked, strict=True))
        for piece in range(pieces)
    ]


def _explicit(source: RecordSource) -> str | None:
    """The split that the recipe itself names."""
    return source.split if "split" in source.model_fields_set else None


def _rows(source: RecordSource, part: Part, records: Iterator[files.Record], folder: str) -> Iterator[Read]:
    """Of each record its rows; the fields of the first records together are checked, once for a part."""
    first = list(islice(records, _CHECKED))
    fields: dict[str, Any] = {}
    for record in first:
        if isinstance(record.value, Mapping):
            fields |= {key: value for key, value in record.value.items() if fields.get(key) is None}
    if fields and first[0].next[1] == 1:  # what comes after a place was checked before it was left
        check_fields(fields, source)
    for record in chain(first, records):
        where = f"{part.shown} {record.place}" if part.shown else record.place
        found = rows_of(record.value, source, part.split, record.place, part.name)
        yield Read([RawRow(number=record.next[1] - 1, folder=folder, **row) for row in found], where, record.next)


@contextmanager
def named(source: Source) -> Iterator[None]:
    """Errors of files and stores, and a user's mistakes, begin with the source. They become ValueErrors."""
    where = f"prepare.sources[{source.name}]"
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise ValueError(f"{where}: {what}. Mend it, and run again: what was read is kept.") from error
    except ValueError as error:
        raise error if str(error).startswith(where) else ValueError(f"{where}: {error}") from error


def _charts(source: ChartsSource) -> Iterator[RawRow]:
    number = 0
    for split in ("train", "validation", "test"):
        images: int = getattr(source, f"{split}_images")
        for row in chart_rows(source.seed, split, images, source.questions_per_image, number):
            yield row
            number += 1


def _custom(source: CustomSource, start: int) -> Iterator[Read]:
    reader = _custom_reader(source)
    try:
        rows = iter(reader(**source.options))
    except Exception as error:  # an option that it does not have; or it is no generator, and reads all at once
        raise ValueError(_told(source, error, 0)) from error
    for number in range(1 << 62):
        try:
            value = next(rows)
        except StopIteration:
            return
        except Exception as error:  # whatever the reader raises is its author's to mend
            raise ValueError(_told(source, error, number)) from error
        if number >= start:
            yield Read([_custom_row(value, number, source)], f"row {number}", (0, number + 1))


def _custom_row(value: Any, number: int, source: CustomSource) -> RawRow:
    if isinstance(value, Mapping):
        unknown = sorted(map(str, value.keys() - _ROW_FIELDS))
        if unknown:
            return RawRow(number, problem=("reader yielded fields that a RawRow does not have", ", ".join(unknown)))
        defaults = {"split": source.split, "answer_type": source.answer_type}
        value = RawRow(**{**defaults, **value, "number": number})
    if isinstance(value, RawRow):
        return replace(value, number=number)
    return RawRow(number, problem=("reader yielded neither a RawRow nor a mapping", type(value).__name__))


def _told(source: CustomSource, error: Exception, number: int) -> str:
    """The error of somebody's reader, with the line of theirs that raised it."""
    if isinstance(error, ValueError) and source.reader.startswith("masters."):
        return f"prepare.sources[{source.name}].{error}"  # ours: it begins with the field, and ends with the remedy
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    place = f" at {own[-1].filename}, line {own[-1].lineno}" if own else ""
    code = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""
    return (
        f"prepare.sources[{source.name}].reader = {source.reader}: raised {type(error).__name__}: {error} "
        f"for row {number}{place}{f': {code}' if code else ''}. "
        "Mend it; a single row that it cannot read it may yield as RawRow(number, problem=(reason, detail))."
    )


def _custom_reader(source: CustomSource) -> Callable[..., Iterable[Any]]:
    module, _, function = source.reader.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"prepare.sources[{source.name}].reader = {source.reader}: {error}. Is it on PYTHONPATH?"
        ) from error
