"""Duplicates in prepare: which rows repeat an earlier one, left out and told.

The driver holds keys and 16-byte hashes (masters.data.duplicates). Thumbnails of what looks alike are fetched from the staged
chunks by tasks, some thousand pairs at a time, and compared.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from masters.config.run import RunConfig
from masters.data import mixing, staging
from masters.data.duplicates import KINDS, Duplicates, RowHashes, find_duplicates, listed
from masters.data.image_hashes import THUMBNAIL_BYTES
from masters.data.look_alikes import same_pictures
from masters.data.order import Array, Keys
from masters.data.storage import Storage
from masters.data.summary import SourceSummary
from masters.data.tables import REJECTS

TABLE = "rejects/prepare/duplicates.parquet"
_PAIRS = 16_384
"""Compared at a time: their thumbnails are at most 92 MB."""

Each = Callable[[Callable[..., Any], list[dict[str, Any]]], Iterable[Any]]
"""A function's results for items, as they come: masters.stages.ordering."""


def leave_out(
    keys: Keys,
    kept: Array,
    hashes: RowHashes,
    facts: mixing.Facts,
    owner: Array,
    chunks: Sequence[str],
    summaries: Sequence[SourceSummary],
    config: RunConfig,
    run: Storage,
    each: Each,
) -> tuple[Array, list[dict[str, Any]]]:
    """Which rows [n] are still kept, and the counts of the others by kind and pair of sources.

    Each is in TABLE, with the row that is kept in its stead; it is no reject: nothing is wrong with it.

    Args:
        keys: of all accepted rows.
        kept: [n] bool, rows that nothing else drops.
        hashes, facts: of the same rows.
        owner: [n], number of each row's source.
        chunks: names, by number.
        summaries: one for each source; they tell of kept rows then.
        config: the recipe; its `prepare.deduplicate` is not off.
        run: with the staged chunks.
        each: how tasks run.
    """
    names = [source.name for source in config.prepare.sources]

    def verify(pairs: Array) -> Array:
        same = np.zeros(len(pairs), bool)
        for start in range(0, len(pairs), _PAIRS):
            part = pairs[start : start + _PAIRS]
            places, at = np.unique(part, return_inverse=True)
            thumbnails = _fetched(places, keys, chunks, each)
            one, other = at.reshape(-1, 2).T
            same[start : start + _PAIRS] = same_pictures(thumbnails[one], thumbnails[other])
        return same

    found = find_duplicates(keys, kept, hashes, verify if config.prepare.deduplicate == "perceptual" else None)
    _write_table(found, keys, owner, names, chunks, run, each)
    left = kept & (found.kind == 0)
    for number, summary in enumerate(summaries):
        mine = owner == number
        summary.duplicates = int((mine & (found.kind > 0)).sum())
        if summary.duplicates:
            mixing.recount(summary, keys, facts, left & mine)
    return left, listed(found, owner, names)


def _fetched(places: Array, keys: Keys, chunks: Sequence[str], each: Each) -> Array:
    """[p, THUMBNAIL_BYTES] uint8: thumbnails of images, by their places among all of them."""
    row = keys.owner[places]
    thumbnails = np.zeros((len(places), THUMBNAIL_BYTES), np.uint8)
    items = [
        {"chunk": chunks[number], "mine": mine, "rows": keys.row[row[mine]], "places": keys.place[places[mine]]}
        for number in np.unique(keys.chunk[row]).tolist()
        for mine in [np.flatnonzero(keys.chunk[row] == number)]
    ]
    for mine, content in each(staged_thumbnails, items):
        thumbnails[mine] = content
    return thumbnails


def staged_thumbnails(item: dict[str, Any], config: RunConfig, run: Storage) -> tuple[Array, Array]:
    """Ray Data: `mine` of the item, and thumbnails of some images of a chunk, each named by row and place."""
    table = staging.read_columns(run, item["chunk"], ["row_number", "hashes"])
    by_row = _by_row(table, item["rows"])["hashes"].to_pylist()
    found = [hashes[place]["thumbnail"] for hashes, place in zip(by_row, item["places"].tolist(), strict=True)]
    return item["mine"], np.frombuffer(b"".join(found), np.uint8).reshape(-1, THUMBNAIL_BYTES)


def staged_names(item: dict[str, Any], config: RunConfig, run: Storage) -> tuple[Array, list[str], list[str]]:
    """Ray Data: `mine` of the item, and what some rows of a chunk are called: their keys, and the ids of their samples."""
    table = staging.read_columns(run, item["chunk"], ["row_number", "row", "sample_id"])
    rows = _by_row(table, item["rows"])
    return item["mine"], rows["row"].to_pylist(), rows["sample_id"].to_pylist()


def _by_row(table: pa.Table, rows: Array) -> pa.Table:
    have = table["row_number"].to_numpy()
    by_row = np.argsort(have)
    return table.take(by_row[np.searchsorted(have, rows, sorter=by_row)])


def _write_table(
    found: Duplicates,
    keys: Keys,
    owner: Array,
    names: Sequence[str],
    chunks: Sequence[str],
    run: Storage,
    each: Each,
) -> None:
    """Which row was left out, and which one is kept in its stead; in the order of the sources."""
    dropped = np.flatnonzero(found.kind)
    if not len(dropped):
        return
    places = np.unique(np.concatenate([dropped, found.of[dropped]]))
    items = [
        {"chunk": chunks[number], "mine": mine, "rows": keys.row[places[mine]]}
        for number in np.unique(keys.chunk[places]).tolist()
        for mine in [np.flatnonzero(keys.chunk[places] == number)]
    ]
    row_of, id_of = dict[int, str](), dict[int, str]()
    for mine, rows, ids in each(staged_names, items):
        row_of |= zip(places[mine].tolist(), rows, strict=True)
        id_of |= zip(places[mine].tolist(), ids, strict=True)
    dropped = dropped[np.lexsort((keys.row[dropped], keys.chunk[dropped]))]
    table = {
        "source": [names[source] for source in owner[dropped].tolist()],
        "row": [row_of[place] for place in dropped.tolist()],
        "reason": [f"{KINDS[kind]} duplicate" for kind in found.kind[dropped].tolist()],
        "detail": [f"{id_of[place]} is kept" for place in found.of[dropped].tolist()],
    }
    run.write_table(TABLE, pa.table(table, schema=REJECTS))
