"""The tiny recipe as the lab's cluster takes it, whole or cut to two minutes."""

from collections.abc import Callable
from pathlib import Path

import yaml

from tests.k8s.tools import ROOT

GROUPS = {
    "prepare": "judge",
    "mask": "judge",
    "generate": "generate",
    "score": "judge",
    "train": "train",
    "evaluate": "generate",
}
IMAGE = Path("/opt/masters")  # where docker/Dockerfile puts the models


def cut(recipe: dict) -> None:
    """Fewer images and levels, smaller shards, and no teacher is evaluated."""
    recipe["curriculum"][0]["mask_step"] = 0.1
    recipe["prepare"]["sources"][0] |= {"train_images": 160, "test_images": 20}
    recipe["evaluate"]["teachers"] = False
    recipe["generate"]["shard_size"] = 30
    recipe["train"]["checkpoint_every"] = 5


def write_recipe(
    path: Path,
    change: Callable[[dict], None] | None = None,
    *,
    storage: Path = Path("/runs"),
    models: Path = IMAGE,
    labels: bool = False,
) -> Path:
    """Named as its file; models by absolute paths, since a job starts in a folder of its own."""
    recipe = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    recipe |= {"name": path.stem, "storage": str(storage)}
    for model in (recipe["student"], *recipe["curriculum"]):
        model["path"] = str(models / model["path"])
    if labels:
        for stage, group in GROUPS.items():
            recipe["resources"].setdefault(stage, {})["labels"] = {"ray.io/node-group": group}
    if change is not None:
        change(recipe)
    path.write_text(yaml.safe_dump(recipe))
    return path
