"""The tiny recipe, cut to two minutes, as the lab's cluster takes it."""

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


def write_recipe(path: Path, storage: str, *, labels: bool) -> Path:
    """Fewer images and smaller shards; models by absolute paths, since a job starts in a folder of its own."""
    recipe = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    recipe |= {"name": path.stem, "storage": storage}
    for model in (recipe["student"], *recipe["curriculum"]):
        model["path"] = str(ROOT / model["path"])
    recipe["curriculum"][0]["mask_step"] = 0.1
    recipe["prepare"]["sources"][0] |= {"train_images": 160, "test_images": 20}
    recipe["evaluate"]["teachers"] = False
    recipe["generate"]["shard_size"] = 30
    recipe["train"]["checkpoint_every"] = 5
    if labels:
        for stage, group in GROUPS.items():
            recipe["resources"].setdefault(stage, {})["labels"] = {"ray.io/node-group": group}
    path.write_text(yaml.safe_dump(recipe))
    return path
