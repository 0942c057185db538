"""prepare: from the user's data to samples, images stored once, and rejects with their reasons.

It fixes the order of the samples and the level that each one meets, so that nothing later can move a sample.
"""

import functools
import hashlib
import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.algo.schedule import level_index
from masters.config.prepare import LlavaSource, Source, TableSource
from masters.config.run import RunConfig
from masters.data import readers
from masters.data.rows import RawRow, RejectError, check_row, row_key
from masters.data.samples import write_samples
from masters.data.storage import Storage
from masters.data.tables import REJECTS, SAMPLES
from masters.models.folder import family_of, fingerprint, resolve
from masters.reporting.progress import Screen
from masters.stages.base import Stage

REJECTS_FILE = "rejects/prepare/rows.parquet"
_BATCH_ROWS, _BATCH_BYTES = 128, 64 << 20
_CHECKED = pa.schema(
    [
        *(field for field in SAMPLES if field.name not in ("position", "levels")),
        ("number", pa.int64()),  # of the row in its source
        ("row", pa.string()),  # its key in rejects
        ("order", pa.uint64()),  # sorting by it is the seeded permutation
        ("reason", pa.string()),  # null for an accepted row
        ("detail", pa.string()),
    ]
)


def parts(config: RunConfig) -> dict[str, Any]:
    """What the samples depend on."""
    return {
        "seed": config.seed,
        "curriculum": [config.levels(i) for i in range(len(config.curriculum))],
        "sources": [readers.fingerprint(source) for source in config.prepare.sources],
        "prepare.max_image_pixels": config.prepare.max_image_pixels,
        "longest_prompt": _longest_prompt(config),
        "student": fingerprint(config.student.path, config.hub_token_env),
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Read, check, order and write."""
    import ray.data

    from masters.stages.cluster import connect, remote_options

    for output in STAGE.outputs:
        run.delete(output)
    connect()
    sources, options = config.prepare.sources, remote_options(config.resources.prepare)
    numbers = ray.data.from_items(list(range(len(sources))), override_num_blocks=len(sources))
    # Readers take no CPU of their own: on a small machine they would starve the checks that they feed.
    rows = numbers.map_batches(_read, batch_size=1, fn_args=(sources,), **{**options, "num_cpus": 0})
    checked = rows.map_batches(_check, batch_size=_BATCH_ROWS, fn_args=(config, run), batch_format="pyarrow", **options)
    tables = [_CHECKED.empty_table()]
    with screen.track("prepare", 0, "rows") as tracker:  # how many there will be, only the end of the sources tells
        for table in checked.iter_batches(batch_size=None, batch_format="pyarrow"):
            tables.append(table)
            tracker.advance(table.num_rows)
    return _finish(pa.concat_tables(tables), config, run)


STAGE = Stage("prepare", (), ("samples", "images", "rejects/prepare"), parts, execute)


def _read(batch: dict[str, Any], sources: tuple[Source, ...]) -> Iterator[dict[str, Any]]:
    """Ray Data: a source's rows, pickled, in batches of bounded size."""
    for index in batch["item"]:
        source, size = sources[index], 0
        rows: list[bytes] = []
        for row in readers.read_source(source):
            rows.append(_packed(row))
            size += len(rows[-1])
            if len(rows) == _BATCH_ROWS or size > _BATCH_BYTES:
                yield {"source": [source.name] * len(rows), "row": rows}
                rows, size = [], 0
        if rows:
            yield {"source": [source.name] * len(rows), "row": rows}


def _packed(row: RawRow) -> bytes:
    try:
        return pickle.dumps(row)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return pickle.dumps(RawRow(row.number, problem=("row cannot be passed on to another process", detail)))


def _check(batch: pa.Table, config: RunConfig, run: Storage) -> pa.Table:
    """Ray Data: samples and rejects of a batch of rows; images are stored on the way."""
    records = []
    for source, pickled in zip(batch["source"].to_pylist(), batch["row"].to_pylist(), strict=True):
        row = pickle.loads(pickled)
        record = {"source": source, "number": row.number, "row": row_key(row)}
        try:
            sample, images = check_row(row, source, config.prepare.max_image_pixels)
            _check_prompt(sample, [image.content for image in images], config)
        except RejectError as reject:
            records.append({**record, "reason": reject.reason, "detail": reject.detail})
            continue
        for image in images:
            if not run.exists(f"images/{image.name}"):
                run.write(f"images/{image.name}", image.content)
        digest = hashlib.sha256(f"{config.seed}/{sample['sample_id']}".encode()).digest()
        records.append({**record, **sample, "order": int.from_bytes(digest[:8], "big")})
    return pa.Table.from_pylist(records, schema=_CHECKED)


def _check_prompt(sample: dict[str, Any], images: list[bytes], config: RunConfig) -> None:
    """Reject what the models could not be asked, before any of them is loaded."""
    from masters.models.chat import load_image, messages

    try:
        encoded = _processor(config.student.path, config.hub_token_env).encode(
            messages(sample), [load_image(image) for image in images]
        )
    except ValueError as error:
        raise RejectError("the model's processor refuses the row", str(error)) from error
    tokens, longest = len(encoded.input_ids), _longest_prompt(config)
    if tokens > longest:
        raise RejectError(
            "prompt is too long",
            f"{tokens} tokens; engine.max_model_len leaves {longest} beside the response",
        )


def _longest_prompt(config: RunConfig) -> int:
    return config.engine.max_model_len - max(config.generate.max_tokens, config.evaluate.max_tokens)


@functools.cache
def _processor(path: str, token_env: str) -> Any:
    """One per worker process: loading it takes seconds."""
    from masters.models.chat import ChatProcessor

    folder = resolve(path, token_env, weights=False)
    return ChatProcessor(folder, family_of(folder))


def _finish(checked: pa.Table, config: RunConfig, run: Storage) -> tuple[dict[str, Any], str]:
    """Find duplicates, write rejects, put samples in order, and refuse data that is too bad to train on."""
    _check_sources(checked, config.prepare.sources)
    checked = checked.sort_by([("source", "ascending"), ("sample_id", "ascending"), ("number", "ascending")])
    checked = _reject_duplicates(checked)
    rejected = checked.filter(pc.is_valid(checked["reason"])).sort_by(
        [("source", "ascending"), ("number", "ascending")]
    )
    run.write_table(REJECTS_FILE, rejected.select(REJECTS.names).cast(REJECTS))
    reasons = Counter(rejected["reason"].to_pylist())
    ratio = rejected.num_rows / max(1, checked.num_rows)
    if ratio > config.prepare.max_reject_ratio:
        common = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
        raise ValueError(
            f"prepare.max_reject_ratio = {config.prepare.max_reject_ratio}: {rejected.num_rows} of {checked.num_rows} rows "
            f"cannot be used: {common}. They are in {run.uri}/{REJECTS_FILE}; mend them, or raise the ratio."
        )
    accepted = checked.filter(pc.is_null(checked["reason"])).sort_by(
        [("order", "ascending"), ("sample_id", "ascending")]
    )
    counts: dict[str, Any] = {}
    for split in ("train", "validation", "test"):
        samples = accepted.filter(pc.equal(accepted["split"], split))
        counts[split] = samples.num_rows
        write_samples(run, split, _with_levels(samples, config if split == "train" else None))
    _check_counts(counts, config)
    images = {name for names in accepted["image_ids"].to_pylist() for name in names}
    most = pc.max(pc.list_value_length(accepted["image_ids"])).as_py()
    counts.update(rows=checked.num_rows, images=len(images), images_per_prompt=most, rejects=dict(reasons))
    counts["shared_images"] = _shared_images(accepted, config.evaluate.split)
    return counts, _summary(counts, config.evaluate.split)


def _shared_images(accepted: pa.Table, evaluated: str) -> int:
    """Images that are both trained on and asked about in evaluate."""
    if evaluated == "train":
        return 0
    splits = (accepted.filter(pc.equal(accepted["split"], split))["image_ids"] for split in ("train", evaluated))
    train, asked = (set(pc.list_flatten(image_ids).to_pylist()) for image_ids in splits)
    return len(train & asked)


def _summary(counts: dict[str, Any], evaluated: str) -> str:
    listed = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test") if counts[split])
    summary = f"{listed} samples, {counts['images']:,} images, {sum(counts['rejects'].values()):,} rejects"
    shared = counts["shared_images"]
    if not shared:
        return summary
    which = f"1 image of {evaluated} is" if shared == 1 else f"{shared:,} images of {evaluated} are"
    return f"{summary}; {which} in train, too"


def _reject_duplicates(checked: pa.Table) -> pa.Table:
    """Rows are sorted by id and number: the first of equal ids stays."""
    ids, reasons, details = (checked[name].to_pylist() for name in ("sample_id", "reason", "detail"))
    for place in range(1, len(ids)):
        if ids[place] is not None and ids[place] == ids[place - 1]:
            reasons[place], details[place] = "id is used twice", "the first row with this id was taken"
    for name, values in (("reason", reasons), ("detail", details)):
        checked = checked.set_column(checked.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return checked


def _with_levels(samples: pa.Table, config: RunConfig | None) -> pa.Table:
    """Add position and levels; without a recipe there are none."""
    total = samples.num_rows
    curriculum = [config.levels(i) for i in range(len(config.curriculum))] if config else []
    levels = [[names[level_index(position, total, len(names))] for names in curriculum] for position in range(total)]
    columns = {
        "position": pa.array(range(total), pa.int64()),
        "levels": pa.array(levels, pa.list_(pa.string())),
    }
    return pa.table(
        {name: columns[name] if name in columns else samples[name] for name in SAMPLES.names}, schema=SAMPLES
    )


def _check_sources(checked: pa.Table, sources: tuple[Source, ...]) -> None:
    """Each gave a row, if only one for the rejects: an empty file is a mistake that nobody would see."""
    found = set(checked["source"].to_pylist())
    for source in sources:
        if source.name not in found:
            path = f".path = {source.path}" if isinstance(source, LlavaSource | TableSource) else ""
            raise ValueError(
                f"prepare.sources[{source.name}]{path}: gives no row. Name data that has rows, or remove the source."
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
