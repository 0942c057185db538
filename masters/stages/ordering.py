"""The second half of prepare: repeated ids, the order of the samples and their levels, each image in one place.

The driver holds keys of rows only (masters.data.order); rows and images are moved by tasks of Ray Data.
"""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from masters.algo.schedule import level_index
from masters.config.prepare import FilesSource, Source
from masters.config.run import RunConfig
from masters.data import mixing, order, staging
from masters.data.duplicates import RowHashes
from masters.data.image_hashes import ImageHashes
from masters.data.image_shards import keep_only
from masters.data.leakage import hash_table, write_hashes
from masters.data.order import SPLITS, Array, Homes, Keys
from masters.data.samples import FILE_ROWS, write_samples
from masters.data.storage import Storage
from masters.data.students import check_choice
from masters.data.summary import SourceSummary, counted
from masters.data.tables import REJECTS, SAMPLES
from masters.reporting.progress import Screen
from masters.stages import duplicates

REJECTS_FOLDER = "rejects/prepare"
_REPEATED = "id is used twice"
_TASK_BYTES = 128 << 20
_TASK_ROWS = 1 << 17


@dataclass(frozen=True)
class Chunk:
    """What the driver knows of a committed chunk: its source's number, its name, keys, facts, summary, and size in memory;
    hashes where rows that repeat others are looked for."""

    source: int
    name: str
    keys: Keys
    facts: mixing.Facts
    summary: SourceSummary
    size: int
    hashes: RowHashes | None = None


def put_in_order(
    chunks: Sequence[Chunk], config: RunConfig, run: Storage, screen: Screen
) -> tuple[dict[str, Any], str]:
    """Write samples; refuse data that are too bad to train on. Counts and words about them."""
    sources = config.prepare.sources
    summaries = _summaries(chunks, sources)
    staged = Keys.join([chunk.keys for chunk in chunks])
    keys, numbers = _numbered(staged, chunks, config, run)
    kept = order.occurrences(keys) == 0
    _reject_repeated(keys, kept, chunks, config, run, summaries)
    facts = mixing.Facts.join([chunk.facts for chunk in chunks])
    owner = np.array([chunk.source for chunk in chunks])[keys.chunk]
    kept, repeated = _leave_out(keys, kept, facts, owner, chunks, summaries, config, run)
    kept = mixing.keep_limits(keys, facts, kept, owner, sources, summaries, config.seed)
    homes = order.homes(keys, kept)
    counts = _counts(keys, kept, homes, summaries, config)
    counts["duplicates"] = repeated
    counts["mix"] = mixing.statistics(keys, facts, kept, owner, [source.name for source in sources])
    for source, summary in zip(sources, summaries, strict=True):
        for line in summary.lines(source.name):
            screen.line("prepare", line)
        for line in summary.warnings(source.name):
            screen.line("warning", line)
    if counts["equal_content"]:
        screen.line("warning", f"{counted(counts['equal_content'], 'row')}: the same as another one, under another id")
    _check_rejects(counts, run, config)
    _check_counts(counts, config)
    with screen.track("prepare", int(kept.sum()), "rows in order") as tracker:
        for rows in map_tasks(_write, _tasks(keys, kept, staged.order, numbers, homes, chunks), config, run):
            tracker.advance(rows)
    for _ in map_tasks(_clean, _crowded_shards(keys, kept, homes, chunks), config, run):
        pass
    return counts, _summary(counts, config.evaluate.split)


def _leave_out(
    keys: Keys,
    kept: Array,
    facts: mixing.Facts,
    owner: Array,
    chunks: Sequence[Chunk],
    summaries: Sequence[SourceSummary],
    config: RunConfig,
    run: Storage,
) -> tuple[Array, list[dict[str, Any]]]:
    """Which rows are kept when none repeats another, and the counts of the others."""
    found = [chunk.hashes for chunk in chunks if chunk.hashes is not None]
    if config.prepare.deduplicate == "off":
        return kept, []
    return duplicates.leave_out(
        keys,
        kept,
        RowHashes.join(found),
        facts,
        owner,
        [chunk.name for chunk in chunks],
        summaries,
        config,
        run,
        lambda function, items: map_tasks(function, items, config, run),
    )


def map_tasks(
    function: Callable[..., Any], items: list[dict[str, Any]], config: RunConfig, run: Storage
) -> Iterator[Any]:
    """Ray Data: function(item, config, run) for every item, as they come."""
    if items:
        import ray.data

        from masters.stages.cluster import remote_options

        packed = [{"item": pickle.dumps(item)} for item in items]  # 64-bit numbers without a sign are none of Arrow's
        dataset = ray.data.from_items(packed, override_num_blocks=len(packed))
        results = dataset.map(_apply, fn_args=(function, config, run), **remote_options(config.resources.prepare))
        yield from (pickle.loads(row["result"]) for row in results.iter_rows())


def _apply(row: dict[str, Any], function: Callable[..., Any], config: RunConfig, run: Storage) -> dict[str, Any]:
    return {"result": pickle.dumps(function(pickle.loads(row["item"]), config, run))}


def _summaries(chunks: Sequence[Chunk], sources: tuple[Source, ...]) -> list[SourceSummary]:
    """One for each source. Each gave a row, if only one for the rejects: an empty file is a mistake that nobody would see."""
    merged = [SourceSummary() for _ in sources]
    for chunk in chunks:
        merged[chunk.source].merge(chunk.summary)
    for source, summary in zip(sources, merged, strict=True):
        if summary.thinned and not summary.rows:
            raise ValueError(
                f"prepare.sources[{source.name}].weight = {source.weight:g}: none of its {summary.thinned:,} rows is used. "
                "Raise it, or remove the source."
            )
        if not summary.rows:
            path = f".path = {source.path}" if isinstance(source, FilesSource) else ""
            raise ValueError(
                f"prepare.sources[{source.name}]{path}: gives no row. Name data that has rows, or remove the source."
            )
    return merged


def _numbered(keys: Keys, chunks: Sequence[Chunk], config: RunConfig, run: Storage) -> tuple[Keys, Array]:
    """Keys in which repeated ids are told apart where the recipe says so, and the number that each of them gets, or 0."""
    wanted = [getattr(source, "repeated_ids", "reject") == "number" for source in config.prepare.sources]
    by_choice = np.array([wanted[chunk.source] for chunk in chunks], bool)
    again = order.occurrences(keys)
    numbers = np.where(by_choice[keys.chunk], again + (again > 0), 0)
    items = [
        {"chunk": chunks[number].name, "rows": keys.row[mine].tolist(), "numbers": numbers[mine].tolist()}
        for number, mine in _by_chunk(keys, numbers > 0)
    ]
    if not items:
        return keys, numbers
    new_order, new_id = keys.order.copy(), keys.id.copy()
    names = {chunk.name: number for number, chunk in enumerate(chunks)}
    for told in map_tasks(_renamed, items, config, run):
        mine = _places(keys, names[told["chunk"]], told["rows"])
        new_order[mine], new_id[mine] = told["order"], told["id"]
    return replace(keys, order=new_order, id=new_id), numbers


def _renamed(item: dict[str, Any], config: RunConfig, run: Storage) -> dict[str, Any]:
    """Ray Data: keys of the new ids of some rows of a chunk."""
    table, _ = staging.read_staged(run, item["chunk"])
    ids = dict(zip(table["row_number"].to_pylist(), table["sample_id"].to_pylist(), strict=True))
    new = [_with_number(ids[row], number) for row, number in zip(item["rows"], item["numbers"], strict=True)]
    return {
        "chunk": item["chunk"],
        "rows": item["rows"],
        "order": np.array([order.permutation_key(config.seed, name) for name in new], np.uint64),
        "id": order.id_hashes(new),
    }


def _with_number(sample_id: str, number: int) -> str:
    return f"{sample_id}~{number}"


def _reject_repeated(
    keys: Keys,
    kept: Array,
    chunks: Sequence[Chunk],
    config: RunConfig,
    run: Storage,
    summaries: Sequence[SourceSummary],
) -> None:
    """Of equal ids the first stays; the others become rejects."""
    items = [
        {"chunk": chunks[number].name, "source": chunks[number].source, "rows": keys.row[mine].tolist()}
        for number, mine in _by_chunk(keys, ~kept)
    ]
    tables = [REJECTS.empty_table()]
    for told in map_tasks(_keys_of_rows, sorted(items, key=lambda item: str(item["chunk"])), config, run):
        source, summary = config.prepare.sources[told["source"]].name, summaries[told["source"]]
        detail = "the first row with this id was taken"
        rows = [{"source": source, "row": row, "reason": _REPEATED, "detail": detail} for row in told["keys"]]
        tables.append(pa.Table.from_pylist(rows, schema=REJECTS))
        for key, split, kind in zip(told["keys"], told["splits"], told["types"], strict=True):
            summary.splits[split] -= 1
            summary.answer_types[kind] -= 1
            summary.reject(key, _REPEATED, detail)
    if items:
        run.write_table(f"{REJECTS_FOLDER}/repeated-ids.parquet", pa.concat_tables(tables).sort_by("row"))


def _keys_of_rows(item: dict[str, Any], config: RunConfig, run: Storage) -> dict[str, Any]:
    """Ray Data: how some rows of a chunk are called, their splits and answer types."""
    table, _ = staging.read_staged(run, item["chunk"])
    mine = table.filter(pa.compute.is_in(table["row_number"], pa.array(item["rows"], pa.int32()))).sort_by("row_number")
    columns = {"keys": "row", "splits": "split", "types": "answer_type"}
    return {"source": item["source"], **{name: mine[column].to_pylist() for name, column in columns.items()}}


def _by_chunk(keys: Keys, chosen: Array) -> list[tuple[int, Array]]:
    """(number of the chunk, places of its chosen rows) for chunks with any."""
    places = np.flatnonzero(chosen)
    numbers, starts = np.unique(keys.chunk[places], return_index=True)
    return list(zip(numbers.tolist(), np.split(places, starts[1:]), strict=True)) if len(places) else []


def _places(keys: Keys, chunk: int, rows: Sequence[int]) -> Array:
    """Places among all rows of some rows of a chunk."""
    mine = np.flatnonzero(keys.chunk == chunk)
    by_row = mine[np.argsort(keys.row[mine])]
    return by_row[np.searchsorted(keys.row[by_row], rows)]


def _tasks(
    keys: Keys, kept: Array, staged_order: Array, numbers: Array, homes: Homes, chunks: Sequence[Chunk]
) -> list[dict[str, Any]]:
    """Runs of whole sample files, each about as large as a task may hold; rows are named by (chunk, row)."""
    size = sum(chunk.size for chunk in chunks) / max(1, len(keys.row))
    step = int(min(_TASK_ROWS, _TASK_BYTES / max(1, size))) // FILE_ROWS * FILE_ROWS or FILE_ROWS
    away = kept[keys.owner] & ((homes.chunk != keys.chunk[keys.owner]) | (homes.shard != keys.shard))
    moved = np.flatnonzero(away)
    tasks = []
    for split in SPLITS:
        places = order.in_order(keys, kept, split)
        rank = np.full(len(kept), -1, np.int64)
        rank[places] = np.arange(len(places))
        by_rank = moved[np.argsort(rank[keys.owner[moved]], kind="stable")]
        ranks = rank[keys.owner[by_rank]]
        for start in range(0, len(places), step):
            mine = places[start : start + step]
            own, chunk = np.unique(keys.chunk[mine], return_inverse=True)
            images = by_rank[slice(*np.searchsorted(ranks, (start, start + len(mine))))]
            new, home = np.unique(homes.chunk[images], return_inverse=True)
            tasks.append(
                {
                    "split": split,
                    "start": start,
                    "total": len(places),
                    "order": (int(staged_order[mine].min()), int(staged_order[mine].max())),
                    "chunks": [chunks[number].name for number in own],
                    "rows": (chunk, keys.row[mine], numbers[mine]),
                    "homes": [chunks[number].name for number in new],
                    "moved": (rank[keys.owner[images]] - start, keys.place[images], home, homes.shard[images]),
                }
            )
    return tasks


def _write(task: dict[str, Any], config: RunConfig, run: Storage) -> int:
    """Ray Data: write some sample files of a split; how many rows they have."""
    chunk, row, number = task["rows"]
    tables, sequence, read = [], np.empty(len(row), np.int64), 0
    for index, name in enumerate(task["chunks"]):
        mine = np.flatnonzero(chunk == index)
        table = staging.read_range(run, name, *task["order"])
        have = table["row_number"].to_numpy()
        by_row = np.argsort(have)
        wanted = by_row[np.searchsorted(have, row[mine], sorter=by_row)]
        tables.append(table.take(wanted).replace_schema_metadata(None))
        sequence[mine] = np.arange(read, read + len(mine))
        read += len(mine)
    rows = pa.concat_tables(tables).take(sequence)
    ids, images = rows["sample_id"].to_pylist(), rows["image_ids"].to_pylist()
    for at in np.flatnonzero(number):
        ids[at] = _with_number(ids[at], number[at])
    for at, place, home, shard in zip(*task["moved"], strict=True):
        images[at][place] = f"{task['homes'][home]}-{shard}/{images[at][place].rpartition('/')[2]}"
    positions = range(task["start"], task["start"] + len(ids))
    columns = {
        "sample_id": ids,
        "image_ids": images,
        "position": positions,
        "levels": _levels(positions, task, config),
    }
    arrays = {field.name: columns.get(field.name) for field in SAMPLES}
    table = pa.table(
        {name: rows[name] if values is None else values for name, values in arrays.items()}, schema=SAMPLES
    )
    write_samples(run, task["split"], table, task["start"])
    if config.prepare.leakage is not None and task["split"] in ("train", config.evaluate.split):
        hashes = [[ImageHashes(**one) for one in its] for its in rows["hashes"].to_pylist()]
        write_hashes(run, task["split"], task["start"], hash_table(ids, hashes))
    return table.num_rows


def _levels(positions: range, task: dict[str, Any], config: RunConfig) -> list[list[str]]:
    """The level under each teacher; none outside train."""
    if task["split"] != "train":
        return [[] for _ in positions]
    curriculum = [config.levels(i) for i in range(len(config.curriculum))]
    return [[names[level_index(at, task["total"], len(names))] for names in curriculum] for at in positions]


def _crowded_shards(keys: Keys, kept: Array, homes: Homes, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    """Shards with images that another one keeps, or that no kept row has; and what each is left with."""
    chunk = keys.chunk[keys.owner]
    stays = kept[keys.owner] & (homes.chunk == chunk) & (homes.shard == keys.shard)
    shard = chunk.astype(np.int64) << 16 | keys.shard
    sequence = np.argsort(shard, kind="stable")
    items = []
    for mine in np.split(sequence, np.flatnonzero(np.diff(shard[sequence])) + 1):
        images = np.unique(keys.image[mine[stays[mine]]], axis=0)
        if len(images) < len(np.unique(keys.image[mine], axis=0)):
            name = f"{chunks[chunk[mine[0]]].name}-{keys.shard[mine[0]]}"
            items.append({"shard": name, "images": [f"{high:016x}{low:016x}" for high, low in images.tolist()]})
    return items


def _clean(item: dict[str, Any], config: RunConfig, run: Storage) -> None:
    """Ray Data: leave only some images in a shard."""
    keep_only(run, item["shard"], set(item["images"]))


def _counts(
    keys: Keys, kept: Array, homes: Homes, summaries: Sequence[SourceSummary], config: RunConfig
) -> dict[str, Any]:
    evaluated = config.evaluate.split
    rejects: Counter[str] = Counter()
    for summary in summaries:
        rejects.update(summary.rejects)
    return {
        **{split: int((kept & (keys.split == number)).sum()) for number, split in enumerate(SPLITS)},
        "rows": sum(summary.rows for summary in summaries),
        "images": homes.distinct,
        "images_per_prompt": max(summary.images.largest for summary in summaries),
        "rejects": dict(rejects),
        "shared_images": 0 if evaluated == "train" else order.shared_images(keys, kept, "train", evaluated),
        "equal_content": order.equal_content(keys, kept),
        "sources": {
            source.name: summary.to_json() for source, summary in zip(config.prepare.sources, summaries, strict=True)
        },
    }


def _summary(counts: dict[str, Any], evaluated: str) -> str:
    listed = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if counts[split])
    summary = f"{listed} samples, {counts['images']:,} images, {sum(counts['rejects'].values()):,} rejects"
    shared = counts["shared_images"]
    if not shared:
        return summary
    which = f"1 image of {evaluated} is" if shared == 1 else f"{shared:,} images of {evaluated} are"
    return f"{summary}; {which} in train, too"


def _check_rejects(counts: dict[str, Any], run: Storage, config: RunConfig) -> None:
    rejected, limit = sum(counts["rejects"].values()), config.prepare.max_reject_ratio
    if rejected > limit * max(1, counts["rows"]):
        common = ", ".join(f"{reason} ({count})" for reason, count in Counter(counts["rejects"]).most_common(3))
        raise ValueError(
            f"prepare.max_reject_ratio = {limit}: {rejected} of {counts['rows']} rows cannot be used: {common}. "
            f"They are in {run.uri}/{REJECTS_FOLDER}; mend them, or raise the ratio."
        )


def _check_counts(counts: dict[str, int], config: RunConfig) -> None:
    levels = max(len(config.levels(i)) for i in range(len(config.curriculum)))
    if counts["train"] < levels:
        raise ValueError(
            f"prepare.sources: {counts['train']} train samples for {levels} levels of the curriculum. Bring more data."
        )
    if not counts[config.evaluate.split]:
        raise ValueError(
            f"evaluate.split = {config.evaluate.split}: no source has rows of that split. Add one, or name another split."
        )
    check_choice(config, counts)
