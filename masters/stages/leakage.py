"""Leakage: images of train that are in the benchmarks, or in the split that is evaluated, too; told, or refused.

It is looked for when prepare is done, before anything takes a GPU, and again where a benchmark came or its file changed: neither
the threshold nor a benchmark changes a sample, so no stage is redone for them.

RUN/leakage/found.json       counts, shares and examples, by benchmark
RUN/leakage/<name>.parquet   every image that leaks: its row in the benchmark, and the sample of train
"""

from typing import Any

from masters.benchmarks import read
from masters.benchmarks.files import md5_of
from masters.benchmarks.recipe import wanted
from masters.config.prepare import LeakageConfig
from masters.config.run import RunConfig
from masters.data.image_hashes import ImageHashes
from masters.data.image_shards import read_image
from masters.data.images import check_content
from masters.data.leakage import FOUND, HASHED, HashedImages, find_leaks, hash_table, write_hashes
from masters.data.manifests import read_manifest
from masters.data.rejects import RejectError
from masters.data.samples import FILE_ROWS
from masters.data.storage import Storage
from masters.data.summary import counted
from masters.reporting.progress import Screen
from masters.stages import ordering

_EXAMPLES, _WORST = 10, 3


def check_leakage(config: RunConfig, run: Storage, screen: Screen) -> None:
    """Look for leaked images where the recipe wants it, and tell. Prepare is done.

    Raises:
        ValueError: where more images leak than the recipe allows, and where a benchmark's file cannot be used.
    """
    rules, prepared = config.prepare.leakage, read_manifest(run, "prepare")
    if rules is None or prepared is None:
        return
    of = {"prepare": prepared.digest, "split": config.evaluate.split, "benchmarks": _files(config)}
    told = run.read_json(FOUND) if run.exists(FOUND) else {}
    if told.get("of") != of:
        told = {"of": of, "found": _look(config, run, screen)}
        run.write_json(FOUND, told)
    for one in told["found"]:
        screen.line("warning" if one["exact"] + one["perceptual"] else "prepare", in_words(one))
    _refuse(told["found"], rules, run)


def in_words(one: dict[str, Any]) -> str:
    """What was found of one benchmark or split."""
    leaked = one["exact"] + one["perceptual"]
    said = f"{one['name']}: {leaked:,} of {counted(one['images'], 'image')} in train, too"
    return f"{said} ({one['exact']:,} exact, {one['perceptual']:,} look the same)" if leaked else said


def _files(config: RunConfig) -> dict[str, str]:
    return {one.name: md5_of(one.benchmark, one.path) for one in wanted(config)}


def _look(config: RunConfig, run: Storage, screen: Screen) -> list[dict[str, Any]]:
    from masters.stages.cluster import connect

    connect()
    splits = [config.evaluate.split] if config.evaluate.split != "train" else []
    if not run.exists(HASHED):
        names = run.names("samples", ".parquet")
        files = [name for split in ("train", *splits) for name in names if name.startswith(f"samples/{split}-")]
        for _ in ordering.map_tasks(hash_samples, [{"file": name} for name in files], config, run):
            pass
        run.write_json(HASHED, {})
    items = [{"place": place} for place in range(len(config.evaluate.benchmarks))] + [
        {"split": name} for name in splits
    ]
    found: list[dict[str, Any]] = []
    with screen.track("prepare", len(items), "benchmarks and splits looked through for images of train") as tracker:
        for one in ordering.map_tasks(search, items, config, run):
            found.append(one)
            tracker.advance(1)
    order = [one.name for one in config.evaluate.benchmarks] + splits
    return sorted(found, key=lambda one: order.index(one["name"]))


def search(item: dict[str, Any], config: RunConfig, run: Storage) -> dict[str, Any]:
    """Ray Data: what leaked into one benchmark or split; a table of all of it is written."""
    train = HashedImages.of_split(run, "train")
    name = item.get("split") or config.evaluate.benchmarks[item["place"]].name
    evaluated = HashedImages.of_split(run, name) if "split" in item else _of_benchmark(item["place"], config)
    leaks = find_leaks(train, evaluated)
    run.write_table(f"leakage/{name}.parquet", leaks)
    kinds = leaks["kind"].to_pylist()
    return {
        "name": name,
        "images": len(evaluated.pixels),
        "exact": kinds.count("exact"),
        "perceptual": kinds.count("perceptual"),
        "examples": leaks.slice(0, _EXAMPLES).to_pylist(),
    }


def _of_benchmark(place: int, config: RunConfig) -> HashedImages:
    """Images of a benchmark's file; those that no model can be shown are left out."""
    one, ids, hashes = wanted(config)[place], list[str](), list[list[ImageHashes]]()
    for question in read(one.benchmark, one.path).with_images():
        for content in question.images:
            try:
                image = check_content(content, config.prepare.max_image_pixels, "perceptual")
            except RejectError:
                continue
            ids.append(question.index)
            hashes.append([image.hashes] if image.hashes else [])
    return HashedImages.of_table(hash_table(ids, hashes))


def hash_samples(item: dict[str, Any], config: RunConfig, run: Storage) -> None:
    """Ray Data: hash the images of a file of samples; prepare has done so where the recipe had `leakage` then."""
    table = run.read_table(item["file"], ["sample_id", "image_ids"])
    ids, hashes, seen = list[str](), list[list[ImageHashes]](), set[str]()
    for row in table.to_pylist():
        new = [name for name in row["image_ids"] if name not in seen]
        seen.update(new)
        images = [check_content(read_image(run, name), config.prepare.max_image_pixels, "perceptual") for name in new]
        ids.append(row["sample_id"])
        hashes.append([image.hashes for image in images if image.hashes])
    split, _, number = item["file"].removeprefix("samples/").removesuffix(".parquet").rpartition("-")
    write_hashes(run, split, int(number) * FILE_ROWS, hash_table(ids, hashes))


def _refuse(found: list[dict[str, Any]], rules: LeakageConfig, run: Storage) -> None:
    """Raise where too many images leak, the worst benchmark first."""
    shares = {one["name"]: (one["exact"] + one["perceptual"]) / max(1, one["images"]) for one in found}
    bad = sorted(
        (one for one in found if shares[one["name"]] > rules.most and one["name"] not in rules.allow),
        key=lambda one: -shares[one["name"]],
    )
    if not bad:
        return
    worst = "; ".join(
        f"{in_words(one)}, for example its {one['examples'][0]['evaluated']} is in {one['examples'][0]['train']}"
        for one in bad[:_WORST]
    )
    more = f"; and {len(bad) - _WORST} more" if len(bad) > _WORST else ""
    names = ", ".join(one["name"] for one in bad)
    raise ValueError(
        f"prepare.leakage.most = {rules.most:g}: train has more of the images that are evaluated: {worst}{more}. Leave these "
        f"rows out of prepare.sources ({run.uri}/leakage lists them), or allow it: prepare.leakage.allow: [{names}]."
    )
