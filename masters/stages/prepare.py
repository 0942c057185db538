"""prepare: from the user's data to samples, images packed once, and rejects with their reasons.

Parts of the sources are read in parallel and checked chunk by chunk; a chunk that is committed is never read again. Then
masters.stages.ordering fixes the order of the samples and the level that each one meets, so that nothing later can move one.
"""

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from itertools import chain
from typing import Any

import pyarrow as pa

from masters.config.images import ImagesConfig
from masters.config.prepare import Source
from masters.config.run import RunConfig
from masters.data import staging
from masters.data.duplicates import RowHashes
from masters.data.image_files import ImageReader
from masters.data.image_shards import ImageShards
from masters.data.leakage import FOLDER as HASHES_FOLDER
from masters.data.leakage import HASHED
from masters.data.mixing import Facts, is_thinned
from masters.data.order import Keys, permutation_key
from masters.data.rejects import RejectError, SkipRow
from masters.data.rows import RawRow, check_row, row_key, split_of
from masters.data.sources.files import Mark
from masters.data.sources.fingerprints import fingerprint as source_fingerprint
from masters.data.sources.readers import Part, Read, named, parts_of, read_part
from masters.data.staging import Ending
from masters.data.storage import Storage
from masters.data.summary import SourceSummary
from masters.data.tables import REJECTS
from masters.models.folder import family_of, fingerprint, resolve
from masters.models.image_limits import check_limits
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.ordering import REJECTS_FOLDER, Chunk, put_in_order

_READERS = 16
"""Readers at once at most: one of them feeds dozens of checks."""


def parts(config: RunConfig) -> dict[str, Any]:
    """What the samples depend on."""
    return {
        "seed": config.seed,
        "curriculum": [config.levels(i) for i in range(len(config.curriculum))],
        "sources": [source_fingerprint(source, config.hub_token_env) for source in config.prepare.sources],
        "prepare.max_image_pixels": config.prepare.max_image_pixels,
        "longest_prompt": _longest_prompt(config),
        "student": fingerprint(config.student.path, config.hub_token_env),
        **({"prepare.deduplicate": config.prepare.deduplicate} if config.prepare.deduplicate != "off" else {}),
        **config.images.parts,
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Read, check, order and write."""
    check_limits(config, fetch=True)
    sources = config.prepare.sources
    found = [(index, part) for index, source in enumerate(sources) for part in parts_of(source, config.hub_token_env)]
    for output in ("samples", REJECTS_FOLDER, HASHES_FOLDER):
        run.delete(output)
    chunks = _checked_chunks(found, config, run, screen)
    counts, summary = put_in_order(chunks, config, run, screen)
    if config.prepare.leakage is not None:
        run.write_json(HASHED, {})
    run.delete(staging.FOLDER)
    return counts, summary


_OUTPUTS = ("samples", "images", REJECTS_FOLDER, HASHES_FOLDER, staging.FOLDER)
STAGE = Stage("prepare", (), _OUTPUTS, parts, execute, continuing=(staging.FOLDER,))


def _checked_chunks(found: list[tuple[int, Part]], config: RunConfig, run: Storage, screen: Screen) -> list[Chunk]:
    """Read and check what is not committed yet; all chunks in the order of the sources."""
    import ray
    import ray.data

    from masters.stages.cluster import connect, remote_options

    connect()
    options = remote_options(config.resources.prepare)
    items = [{"source": index, "part": json.dumps(asdict(part))} for index, part in found]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset.context.target_max_block_size = 1  # a chunk is a block is a task, as soon as it is read
    most = min(_READERS, len(items), max(2, int(ray.cluster_resources().get("CPU", 2))))
    readers = ray.data.TaskPoolStrategy(size=most)
    # Readers take no CPU of their own: on a small machine they would starve the checks that they feed.
    rows = dataset.map_batches(
        _read, batch_size=1, fn_args=(config, run), compute=readers, **{**options, "num_cpus": 0}
    )
    checked = rows.map_batches(_check, batch_size=1, fn_args=(config, run), batch_format="pyarrow", **options)
    chunks = []
    with screen.track("prepare", 0, "rows") as tracker:  # how many there will be, only the end of the sources tells
        for receipt in checked.iter_rows():
            chunks.append(pickle.loads(receipt["chunk"]))
            tracker.advance(chunks[-1].summary.rows)
    return sorted(chunks, key=lambda chunk: (chunk.source, chunk.name))


def _read(batch: dict[str, Any], config: RunConfig, run: Storage) -> Iterator[dict[str, Any]]:
    """Ray Data: the chunks of a part; of one that is committed the name alone."""
    for index, described in zip(batch["source"], batch["part"], strict=True):
        source, part = config.prepare.sources[index], Part(**json.loads(described))
        for name, rows, ending in _chunks(source, part, config, run):
            packed = None if ending is None else pickle.dumps((rows, ending))
            yield {"source": [index], "name": [name], "rows": [packed]}


def _chunks(
    source: Source, part: Part, config: RunConfig, run: Storage
) -> Iterator[tuple[str, list[tuple[str, bytes]], Ending | None]]:
    """(name, rows with their places, ending) of each chunk; no ending for those that are committed."""
    done, number, start, records = staging.committed(run, source.name), 0, (0, 0), None
    ahead: list[Read] = []
    while True:
        name = staging.chunk_name(source.name, part.file, part.piece, number)
        ending = staging.read_ending(run, name, config.prepare.hashing) if name in done else None
        if ending is not None:
            yield name, [], None
            records, ahead = None, []
        else:
            if records is None:
                records = read_part(source, part, start, config.hub_token_env)
            rows, ending, ahead = _next_chunk(chain(ahead, records), start)
            yield name, rows, ending
        if ending.last:
            return
        number, start = number + 1, ending.next


def _next_chunk(records: Iterator[Read], start: Mark) -> tuple[list[tuple[str, bytes]], Ending, list[Read]]:
    """Rows of the next records, how the chunk ends, and the record that was read and is the next chunk's."""
    rows: list[tuple[str, bytes]] = []
    size = 0
    for read in records:
        if len(rows) >= staging.ROWS or size > staging.BYTES:
            return rows, Ending(start, last=False), [read]
        for row in read.rows:
            rows.append((read.where, _packed(row)))
            size += len(rows[-1][1])
        start = read.next
    return rows, Ending(start, last=True), []


def _packed(row: RawRow) -> bytes:
    try:
        return pickle.dumps(row)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return pickle.dumps(RawRow(row.number, problem=("row cannot be passed on to another process", detail)))


def _check(batch: pa.Table, config: RunConfig, run: Storage) -> pa.Table:
    """Ray Data: check the rows of a chunk and commit it; a receipt with its keys and its summary."""
    (item,) = batch.to_pylist()
    source = config.prepare.sources[item["source"]]
    if item["rows"] is None:
        table, told = staging.read_staged(run, item["name"])
        summary = SourceSummary.from_json(told)
    else:
        rows, ending = pickle.loads(item["rows"])
        with named(source):  # an object store with images may not answer
            table, summary = _check_rows(rows, source, item["name"], config, run)
        staging.commit(run, item["name"], table, ending, summary.to_json(), config.prepare.hashing)
    rejects = table.filter(pa.compute.is_valid(table["reason"])).select(REJECTS.names)
    if rejects.num_rows:
        run.write_table(f"{REJECTS_FOLDER}/{item['name']}.parquet", rejects.replace_schema_metadata(None).cast(REJECTS))
    keys, facts, hashes = Keys.of_chunk(table, config.seed), Facts.of_chunk(table), None
    if config.prepare.deduplicate != "off":
        hashes = RowHashes.of_chunk(table, source.prompt_suffix)
    chunk = Chunk(item["source"], item["name"], keys, facts, summary, table.nbytes, hashes)
    return pa.table({"chunk": [pickle.dumps(chunk)]})


def _check_rows(
    rows: list[tuple[str, bytes]], source: Source, name: str, config: RunConfig, run: Storage
) -> tuple[pa.Table, SourceSummary]:
    """Samples and rejects; images are written on the way."""
    reader = ImageReader(source, config.prepare.max_image_pixels, config.prepare.hashing)
    shards, summary, records = ImageShards(run, name), SourceSummary(), []
    for number, (where, packed) in enumerate(rows):
        row = pickle.loads(packed)
        key = row_key(row, where)
        record = {"source": source.name, "row_number": number, "row": key}
        try:
            if source.weight < 1 and is_thinned(source, split_of(row.split, source), key, config.seed):
                summary.thinned += 1
                continue
            records.append({**record, **_check_row(row, source, reader, shards, summary, config)})
        except SkipRow:
            summary.skipped += 1
        except RejectError as reject:
            records.append({**record, "reason": reject.reason, "detail": reject.detail})
            summary.reject(key, reject.reason, reject.detail)
    summary.images_found, summary.images_missing = reader.found, reader.missing
    summary.first_missing = reader.first_missing
    shards.close()
    return pa.Table.from_pylist(records, schema=staging.CHECKED), summary


def _check_row(
    row: RawRow, source: Source, reader: ImageReader, shards: ImageShards, summary: SourceSummary, config: RunConfig
) -> dict[str, Any]:
    """The sample, with its place in the permutation; it is counted and its images are stored. Raises RejectError, SkipRow."""
    counter = prompt_counter(config.student.path, config.hub_token_env, config.images, config.hub_mirror)
    sample, images = check_row(row, source, reader, counter.family)
    notes = sample.pop("notes")
    try:
        tokens = counter.prompt(sample, [(image.width, image.height) for image in images])
    except ValueError as error:
        raise RejectError("the model's processor refuses the row", str(error)) from error
    if tokens > (longest := _longest_prompt(config)):
        raise RejectError(
            "prompt is too long", f"{tokens} tokens; engine.max_model_len leaves {longest} beside the response"
        )
    cut = counter.text(sample["answer"]) >= max(config.generate.max_tokens, config.evaluate.max_tokens)
    summary.accept(sample, tokens, notes, cut=cut)
    said = [sample[name] for name in ("image_ids", "system", "history", "question", "answers", "options")]
    return {
        **sample,
        "prompt_tokens": tokens,
        "image_ids": [shards.add(image) for image in images],
        "hashes": [asdict(image.hashes) for image in images if image.hashes],
        "image_sides": [side for image in images for side in (image.width, image.height)],
        "order": permutation_key(config.seed, sample["sample_id"]),
        "content_hash": hashlib.sha256(json.dumps(said).encode()).digest()[:16],
    }


def _longest_prompt(config: RunConfig) -> int:
    return config.engine.max_model_len - max(config.generate.max_tokens, config.evaluate.max_tokens)


@cache
def prompt_counter(path: str, token_env: str, images: ImagesConfig, mirror: str | None = None) -> Any:
    """One per worker process."""
    from masters.models.prompts import PromptCounter

    folder = resolve(path, token_env, weights=False, mirror=mirror)
    return PromptCounter(folder, family_of(folder), images)
