"""Readers: from a source of the recipe to raw rows. A reader keeps going past a row that it cannot make sense of.

A reader of your own is a function that yields `masters.data.rows.RawRow`; name it in the recipe as `module:function`.
"""

import codecs
import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from masters.config.prepare import ChartsSource, CustomSource, LlavaSource, Source, TableSource
from masters.data.charts import chart_rows
from masters.data.rows import RawRow

_HASHED = 64 << 20


def read_source(source: Source) -> Iterator[RawRow]:
    """All rows of a source, in its own order.

    Raises:
        ValueError: where the source as a whole cannot be read, with the field that names it.
    """
    where = f"prepare.sources[{source.name}]"
    try:
        if isinstance(source, ChartsSource):
            yield from _read_charts(source)
        elif isinstance(source, LlavaSource):
            yield from _read_llava(source)
        elif isinstance(source, TableSource):
            yield from _read_table(source)
        else:
            yield from _read_custom(source)
    except OSError as error:
        raise ValueError(f"{where}: {error.filename or error}: {error.strerror or 'cannot be read'}") from error


def fingerprint(source: Source) -> dict[str, Any]:
    """What a source's rows depend on: its configuration, and its files; where `path` lies does not matter.

    Files up to 64 MiB count by their content, larger ones by size and time. Images that rows name are not looked at, but
    another `image_root` is another source. Of a reader of one's own, its module counts, and files that options name.
    """
    facts: dict[str, Any] = source.model_dump(mode="json", exclude={"path"})
    if isinstance(source, LlavaSource | TableSource):
        root = Path(source.path)
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        facts["files"] = [f"{file.relative_to(root)} {_identity(file)}" for file in files if file.exists()]
    elif isinstance(source, CustomSource):
        facts["code"] = _code_identity(source.reader.partition(":")[0])
        facts["files"] = {
            name: _identity(Path(value))
            for name, value in source.options.items()
            if isinstance(value, str) and os.path.isfile(value)
        }
    return facts


def _code_identity(module: str) -> str:
    """Of the module's file; empty where it is not found here: reading the source will say so."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    return _identity(Path(spec.origin)) if spec and spec.origin and os.path.isfile(spec.origin) else ""


def _identity(file: Path) -> str:
    stat = file.stat()
    if stat.st_size > _HASHED:
        return f"{stat.st_size} {stat.st_mtime_ns}"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _read_charts(source: ChartsSource) -> Iterator[RawRow]:
    number = 0
    for split in ("train", "validation", "test"):
        images: int = getattr(source, f"{split}_images")
        for row in chart_rows(source.seed, split, images, source.questions_per_image, number):
            yield row
            number += 1


def _read_custom(source: CustomSource) -> Iterator[RawRow]:
    for number, row in enumerate(_custom_reader(source)(**source.options)):
        if isinstance(row, RawRow):
            yield row
        else:
            yield RawRow(number, problem=("reader yielded something else than a RawRow", type(row).__name__))


def _custom_reader(source: CustomSource) -> Callable[..., Iterable[RawRow]]:
    module, _, function = source.reader.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"prepare.sources[{source.name}].reader = {source.reader}: {error}. Is it on PYTHONPATH?"
        ) from error


def _read_llava(source: LlavaSource) -> Iterator[RawRow]:
    root = source.image_root or os.path.dirname(source.path)
    number = 0
    for position, record in _json_records(source.path):
        for row in _llava_turns(record, root, source):
            yield RawRow(**{**row, "number": number, "row_id": row.get("row_id", f"line {position}")})
            number += 1


def _json_records(path: str) -> Iterator[tuple[int, Any]]:
    """(line or place from 1, value) of a JSON array or of JSON lines; a line that is no JSON gives the error."""
    with open(path, "rb") as stream:
        start = len(codecs.BOM_UTF8) if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        stream.seek(start)
        first = stream.read(1)
        while first.isspace():
            first = stream.read(1)
        stream.seek(start)
        if first == b"[":
            try:
                yield from enumerate(json.load(stream), 1)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}: is not a JSON array: {error}") from error
            return
        for position, line in enumerate(stream, 1):
            if line.strip():
                yield position, _json_line(line)


def _json_line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # also integers of too many digits, lists nested too deep
        return error


def _llava_turns(record: Any, root: str, source: LlavaSource) -> Iterator[dict[str, Any]]:
    """One row per answer of the conversation; earlier turns become its history."""
    if isinstance(record, Exception):
        yield {"problem": ("line is not JSON", str(record))}
        return
    if not isinstance(record, Mapping):
        yield {"problem": ("record is not an object", type(record).__name__)}
        return
    base = {
        "row_id": record.get("id"),
        "images": _image_paths(record.get("images") if record.get("image") is None else record["image"], root),
        "split": record.get("split", source.split),
        "answer_type": record.get("answer_type", source.answer_type),
        "question_type": record.get("question_type", ""),
    }
    try:
        system, turns = _split_conversation(record.get("conversations"))
    except ValueError as error:
        reason, _, detail = str(error).partition(": ")
        yield {**base, "problem": (reason, detail)}
        return
    for index in range(0, len(turns), 2):
        suffix = "" if len(turns) == 2 else f"#{index // 2}"
        row_id = f"{base['row_id']}{suffix}" if suffix and isinstance(base["row_id"], str | int) else base["row_id"]
        question, answer = turns[index : index + 2]
        yield {
            **base,
            "row_id": row_id,
            "system": system,
            "question": question,
            "answers": answer,
            "history": turns[:index],
        }


def _split_conversation(turns: Any) -> tuple[Any, list[Any]]:
    """System prompt and alternating questions and answers. Raises ValueError("reason: detail")."""
    if not isinstance(turns, list) or not turns:
        raise ValueError("conversation is missing")
    if not all(isinstance(turn, Mapping) and "from" in turn and "value" in turn for turn in turns):
        raise ValueError("conversation turn is not {from, value}")
    speakers, values = [turn["from"] for turn in turns], [turn["value"] for turn in turns]
    system = values.pop(0) if speakers[0] == "system" and speakers.pop(0) else None
    if len(values) < 2 or len(values) % 2:
        raise ValueError(f"conversation does not end with an answer: {len(values)} turns")
    if any(speaker not in _SPEAKERS[place % 2] for place, speaker in enumerate(speakers)):
        raise ValueError(f"conversation does not alternate between human and gpt: {speakers}")
    return system, values


_SPEAKERS = (("human", "user"), ("gpt", "assistant"))


def _image_paths(value: Any, root: str) -> Any:
    if value is None:
        return []
    paths = value if isinstance(value, list) else [value]
    return [os.path.join(root, path) if isinstance(path, str) else path for path in paths]


def _read_table(source: TableSource) -> Iterator[RawRow]:
    records = _parquet_records(source.path) if source.type == "parquet" else _datasets_records(source.path)
    for number, record in enumerate(records):
        _check_columns(source, record)
        images = record.get(source.images)
        images = images if isinstance(images, list) else [] if images is None else [images]
        yield RawRow(
            number=number,
            row_id=record[source.id],
            question=record[source.question],
            answers=record[source.answer],
            images=[
                image.get("bytes") or image.get("path") if isinstance(image, Mapping) else image for image in images
            ],
            system=record.get(source.system),
            answer_type=record.get("answer_type") or source.answer_type,
            question_type=record.get("question_type") or "",
            split=record.get("split") or source.split,
        )


def _check_columns(source: TableSource, record: Mapping[str, Any]) -> None:
    """Refuse a table without a column that the recipe names, or with images in a column that it does not name."""
    where = f"prepare.sources[{source.name}]"
    optional = [field for field in ("images", "system") if field in source.model_fields_set]
    for field in ("id", "question", "answer", *optional):
        column = getattr(source, field)
        if column not in record:
            found = ", ".join(record)
            raise ValueError(f"{where}: no column {column}; found {found}. Name your columns in the recipe.")
    if source.images in record:
        return
    for column, value in record.items():
        if column not in (source.id, source.question, source.answer, source.system) and _holds_images(value):
            raise ValueError(
                f"{where}.images = {source.images}: no such column, but {column} looks like images. "
                f"Set images: {column}; if the questions are about text only, remove that column."
            )


def _holds_images(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, bytes) or (isinstance(first, Mapping) and {"bytes", "path"} <= first.keys())


def _parquet_records(path: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    root = Path(path)
    for file in sorted(root.rglob("*.parquet")) if root.is_dir() else [root]:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _datasets_records(path: str) -> Iterator[dict[str, Any]]:
    """A folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`; images stay encoded."""
    import datasets

    loaded = datasets.load_from_disk(path)
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    for name, dataset in splits.items():
        for column, feature in dataset.features.items():
            inner = getattr(feature, "feature", feature)
            if isinstance(inner, datasets.Image):
                undecoded = datasets.Image(decode=False)
                dataset = dataset.cast_column(column, undecoded if inner is feature else datasets.List(undecoded))
        for record in dataset:
            yield {"split": name, **record} if name else record
