"""Runs the whole chain on tiny models of several families, one after the other, in one driver: python -m tests.stages.families DIR KIND ..."""

import json
import sys
from pathlib import Path

from masters.config.load import load_recipe
from masters.models.tiny_families import make
from masters.pipeline import NAMES, run_stages
from masters.reporting.progress import Screen
from masters.stages.cluster import disconnect


def write_recipe(folder: Path, kind: str) -> Path:
    """A recipe with two levels, two workers, and a student and a teacher of the family with random weights.

    Engines take longest to start: one answers as the teacher, two as the student before and after.
    """
    for size in ("student", "teacher"):
        make(kind, folder / size, size, seed=1)
    recipe = {
        "name": kind,
        "storage": str(folder / "runs"),
        "student": {"path": str(folder / "student")},
        "curriculum": [{"alias": "big", "path": str(folder / "teacher"), "r_max": 0.2, "mask_step": 0.2}],
        "prepare": {
            "sources": [{"type": "charts", "train_images": 8, "test_images": 3, "questions_per_image": 2}],
        },
        "generate": {"mix": {"teacher": 2, "student": 0, "label": 1}, "max_tokens": 12, "shard_size": 8},
        "score": {"judge": {"type": "rule"}},
        "train": {"precision": "fp32", "groups_per_step": 4, "groups_per_micro_batch": 1, "lr": 1e-3},
        "evaluate": {"max_tokens": 12, "teachers": False},
        "engine": {"max_model_len": 256},
        "resources": {
            "engine": {"compile": False, "kv_cache_gib": 0.25},
            "prepare": {"cpus": 2},
            "train": {"workers": 2},
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return path


def main() -> None:
    """A line for each family that came through."""
    folder, *kinds = sys.argv[1:]
    for kind in kinds:
        place = Path(folder) / kind
        place.mkdir()
        run_stages(load_recipe(write_recipe(place, kind)), Screen(), [name for name in NAMES if name != "report"])
    disconnect()


if __name__ == "__main__":
    main()
