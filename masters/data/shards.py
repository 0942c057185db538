"""Shards: the unit of work and of commit of generate, score and evaluate. Membership and order are fixed by the recipe."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from masters.data.storage import Storage
from masters.data.tables import counted, counts_in

_SEED_BITS = 63
_SEED_ROOM = 1 << 16


@dataclass(frozen=True)
class Shard:
    """The samples at positions start <= position < stop of a split, answered by one author.

    `ratio` is the mask ratio of the engine, as written in level names.
    """

    author: str
    ratio: str
    split: str
    start: int
    stop: int

    def file(self, folder: str) -> str:
        """The shard's table below a folder: <folder>/<author>/<start>-<stop>.parquet."""
        return f"{folder}/{self.author}/{self.start:08d}-{self.stop:08d}.parquet"


def cut(author: str, ratio: str, split: str, start: int, stop: int, size: int) -> Iterator[Shard]:
    """Shards of `size` samples; the last may be smaller."""
    for first in range(start, stop, size):
        yield Shard(author, ratio, split, first, min(first + size, stop))


def holding(names: Sequence[str], positions: Sequence[int]) -> list[str]:
    """Of the names of shards' tables, those that hold one of the positions, by whichever author; no table is opened."""
    wanted = np.unique(np.asarray(positions, np.int64))
    spans = [name.rpartition("/")[2].removesuffix(".parquet").split("-") for name in names]
    starts, stops = (np.array([int(span[end]) for span in spans], np.int64) for end in (0, 1))
    held = np.searchsorted(wanted, starts) < np.searchsorted(wanted, stops)
    return [names[place] for place in np.flatnonzero(held)]


def count(run: Storage, folder: str, shards: Sequence[Shard]) -> dict[str, Counter[str]]:
    """What the tables of shards hold, added up by author, as `masters.data.tables.counted` left it: only footers are read."""
    totals: dict[str, Counter[str]] = {shard.author: Counter() for shard in shards}
    found = run.each(lambda name: _counts(run, name), [shard.file(folder) for shard in shards])
    for shard, counts in zip(shards, found, strict=True):
        totals[shard.author].update(counts)
    return totals


def _counts(run: Storage, name: str) -> dict[str, int]:
    footer = run.footer(name)
    counts = counts_in(footer.metadata, footer.num_rows)
    if counts is None:  # written by a version that did not count
        table = counted(run.read_table(name))
        counts = counts_in(table.schema.metadata, table.num_rows)
    assert counts is not None
    return counts


def level_range(level: int, levels: int, total: int) -> tuple[int, int]:
    """The positions whose level_index is `level`: start <= position < stop."""
    return -(-level * total // levels), -(-(level + 1) * total // levels)


def level_shards(names: Sequence[str], ratios: Sequence[str], total: int, size: int, *, every: bool) -> Iterator[Shard]:
    """Shards of one teacher in level order: each sample at its own level, or at `every` one."""
    for index, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        start, stop = (0, total) if every else level_range(index, len(names), total)
        yield from cut(name, ratio, "train", start, stop, size)


def response_seed(run_seed: int, sample_id: str, author: str) -> int:
    """The seed of an author's first response to a question; the j-th has seed + j. 63 bits, room for 65,536 responses."""
    digest = hashlib.sha256(f"{run_seed}/{sample_id}/{author}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % ((1 << _SEED_BITS) - _SEED_ROOM)
