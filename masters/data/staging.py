"""What prepare keeps of rows between reading and ordering: chunks, each committed whole, so that a killed run goes on.

A chunk is some hundred rows of one part of a source. Its file holds the checked rows, rejects included, in the order of the
seeded permutation, and tells where reading goes on behind it; its images were written before.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from masters.data.image_hashes import HASHES, Hashing
from masters.data.sources.files import Mark
from masters.data.storage import Storage
from masters.data.tables import SAMPLES

FOLDER = "staging"
ROWS, BYTES = 512, 32 << 20
"""Bounds of a chunk: rows, and bytes of what their source holds of them."""

CHECKED = pa.schema(
    [
        *(field for field in SAMPLES if field.name not in ("position", "levels")),
        ("row_number", pa.int32()),  # in the chunk
        ("row", pa.string()),  # its key in rejects
        ("order", pa.uint64()),  # sorting by it is the seeded permutation; null for a reject
        ("image_sides", pa.list_(pa.int32())),  # width and height of each image in pixels, one after the other
        ("hashes", pa.list_(HASHES)),  # of each image; empty where the recipe asks for none
        ("content_hash", pa.binary(16)),  # of all that is asked and answered; null for a reject
        ("reason", pa.string()),  # null for an accepted row
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Ending:
    """How a chunk ends: where reading of its part goes on, and whether there is nothing more."""

    next: Mark
    last: bool


def chunk_name(source: str, file: int, piece: int, chunk: int) -> str:
    """Of a chunk's file below staging/ and, with a number behind it, of its image shards below images/."""
    return f"{source}/{file:05d}-{piece:05d}-{chunk:05d}"


def commit(
    run: Storage, chunk: str, table: pa.Table, ending: Ending, summary: dict[str, Any], hashing: Hashing = "off"
) -> None:
    """Write a chunk, once its images are written: from then on its rows are not read again."""
    told = {"ending": json.dumps(asdict(ending)), "summary": json.dumps(summary), "hashing": hashing}
    run.write_table(_file(chunk), table.sort_by("order").replace_schema_metadata(told), row_group_size=64)


def committed(run: Storage, source: str) -> set[str]:
    """Names of a source's chunks that are there."""
    return {name[len(FOLDER) + 1 : -len(".parquet")] for name in run.names(f"{FOLDER}/{source}", ".parquet")}


def read_ending(run: Storage, chunk: str, hashing: Hashing = "off") -> Ending | None:
    """Where reading goes on behind a chunk; None where it lacks columns, as one that an older Masters left, or hashes."""
    schema = run.open_parquet(_file(chunk)).schema_arrow
    if schema.names != CHECKED.names or hashing not in ("off", schema.metadata[b"hashing"].decode()):
        return None
    ending = json.loads(schema.metadata[b"ending"])
    return Ending((ending["next"][0], ending["next"][1]), ending["last"])


def read_staged(run: Storage, chunk: str) -> tuple[pa.Table, dict[str, Any]]:
    """Rows and summary of a chunk."""
    table = run.read_table(_file(chunk))
    return table, json.loads(table.schema.metadata[b"summary"])


def read_columns(run: Storage, chunk: str, columns: list[str]) -> pa.Table:
    """Some columns of a chunk."""
    return run.read_table(_file(chunk), columns)


def read_range(run: Storage, chunk: str, low: int, high: int) -> pa.Table:
    """The rows of a chunk with low <= order <= high and perhaps some more; only their row groups are read."""
    file = run.open_parquet(_file(chunk))
    return file.read_row_groups(list(_groups(file.metadata, low, high)))


def _groups(metadata: Any, low: int, high: int) -> Iterator[int]:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        (column,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "order")
        statistics = column.statistics
        if statistics is not None and statistics.has_min_max and statistics.min <= high and statistics.max >= low:
            yield number


def _file(chunk: str) -> str:
    return f"{FOLDER}/{chunk}.parquet"
