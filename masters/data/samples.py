"""Samples in position order, cut into files, so that a shard reads only its own."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.data.manifests import read_manifest
from masters.data.order import SPLITS, permutation_key
from masters.data.storage import Storage
from masters.data.tables import SAMPLES

FILE_ROWS = 4096


def write_samples(run: Storage, split: str, samples: pa.Table, first: int = 0) -> None:
    """Write samples of a split, sorted by position; the first one begins a file."""
    assert first % FILE_ROWS == 0
    for start in range(0, samples.num_rows, FILE_ROWS):
        run.write_table(_file(split, (first + start) // FILE_ROWS), samples.slice(start, FILE_ROWS))


def read_samples(run: Storage, split: str, start: int, stop: int) -> list[dict[str, Any]]:
    """The samples at positions start <= position < stop of a split."""
    files = range(start // FILE_ROWS, (stop - 1) // FILE_ROWS + 1 if stop > start else start // FILE_ROWS)
    table = run.read_tables((_file(split, number) for number in files), SAMPLES)
    first = files.start * FILE_ROWS
    return table.slice(start - first, stop - start).to_pylist()


def find_sample(run: Storage, sample_id: str, splits: Sequence[str] = SPLITS) -> dict[str, Any] | None:
    """A sample by its id, in the first split that has it; None where none has.

    Positions are places in the seeded permutation, so an id tells where it lies: few files are opened, whatever their number.
    """
    prepared = read_manifest(run, "prepare")
    if prepared is None:
        return None
    seed, names = prepared.parts["seed"], run.names("samples", ".parquet")
    for split in splits:
        files = _of_split(names, split)
        wanted = permutation_key(seed, sample_id)
        place = bisect_right(files, wanted, key=lambda name: permutation_key(seed, _ids(run, name)[0].as_py())) - 1
        if place >= 0 and (row := pc.index(_ids(run, files[place]), sample_id).as_py()) >= 0:
            return run.read_table(files[place]).slice(row, 1).to_pylist()[0]
    return None


def _ids(run: Storage, name: str) -> pa.ChunkedArray:
    return run.open_parquet(name).read(["sample_id"])["sample_id"]


def train_total(run: Storage) -> int:
    """Number of train samples; 0 before prepare is done."""
    prepared = read_manifest(run, "prepare")
    return prepared.counts.get("train", 0) if prepared else 0


def read_split(run: Storage, split: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All samples of a split, or some columns of them."""
    names = run.names("samples", ".parquet")
    return run.read_tables(_of_split(names, split), SAMPLES, list(columns) if columns else None)


def split_tables(run: Storage, split: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of all samples of a split, file by file. Unlike a whole split, pandas is not imported to make it one table."""
    for name in _of_split(run.names("samples", ".parquet"), split):
        yield run.read_table(name, list(columns))


def _of_split(names: Iterable[str], split: str) -> list[str]:
    return [name for name in names if name.startswith(f"samples/{split}-")]


def _file(split: str, number: int) -> str:
    return f"samples/{split}-{number:06d}.parquet"
