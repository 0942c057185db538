"""Run directories as `masters plan --from` reads them, with what two real runs on one machine counted and took."""

import json
from pathlib import Path

from masters.config.load import load_recipe

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "tiny.yaml"
RUNS = json.loads((Path(__file__).parent / "runs.json").read_text())
"""Of each run: overrides of the recipe, seconds and counts by stage, and sums over the steps of training."""


def write_run(folder, recipe, name="tiny", stages=None):
    """A run directory with manifests and metrics, and nothing else."""
    measured = RUNS[name]
    config = load_recipe(recipe, measured["overrides"])
    (folder / "manifests").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"recipe": config.model_dump(mode="json")}))
    for stage, found in measured["stages"].items():
        if stages is None or stage in stages:
            manifest = {"stage": stage, "digest": "0" * 16, "parts": {}, "status": "done", **found}
            (folder / "manifests" / f"{stage}.json").write_text(json.dumps(manifest))
    if stages is None or "train" in stages:
        (folder / "train").mkdir()
        steps = measured["steps"]
        row = {key: steps[key] / steps["n"] for key in ("time_step", "time_saving")}
        lines = [json.dumps({"step": number, **row}) for number in range(steps["n"])]
        (folder / "train" / "metrics.jsonl").write_text("\n".join(lines))
    return folder
