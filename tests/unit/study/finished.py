"""A run of a study that is finished, as `masters run` leaves it for what a study reads; nothing is computed."""

from dataclasses import replace

import pyarrow as pa

from masters.config.load import load_recipe
from masters.data.manifests import read_manifest, write_manifest
from masters.data.samples import write_samples
from masters.data.tables import PREDICTIONS, SAMPLES
from masters.pipeline import planned_manifests, run_directory
from masters.reporting.statistics import accuracy_interval, paired_interval
from masters.stages.borrow import lender

QUESTIONS = 40
CLUSTERS = [place // 2 for place in range(QUESTIONS)]
BASELINE = [place % 2 == 0 for place in range(QUESTIONS)]

STUDY = """
name: small
storage: {folder}
set: [{more}]
seeds: [{seeds}]
rows:
  - {{name: naive, recipe: {root}/recipes/ablations/naive.yaml, against: baseline}}
  - name: masked
    recipe: {root}/recipes/ablations/masked.yaml
    against: naive
    paper: {{where: Table 5d, value: 76.3, change: 0.1}}
  - name: masters
    recipe: {root}/recipes/ablations/masters.yaml
    against: masked
    paper: {{where: Table 1, change: "+"}}
  - {{name: again, recipe: {root}/recipes/ablations/masked.yaml, set: ["curriculum[0].r_max=0"], against: naive}}
"""


def right(number):
    """Answers of a student that has this many of the baseline's wrong ones right, and loses none."""
    wrong = [place for place, is_right in enumerate(BASELINE) if not is_right]
    return [is_right or place in wrong[:number] for place, is_right in enumerate(BASELINE)]


def finish(recipe, overrides, answers, stages=7, tokens=None):
    """Write the first `stages` of a run, borrowing as a run does; gives the stages that it made itself.

    Args:
        recipe: a file.
        overrides: as of `masters run`.
        answers: of each question of the test split, whether the student is right.
        stages: how many are done.
        tokens: generated, by author.
    """
    config = load_recipe(recipe, overrides)
    run, other, made = run_directory(config), lender(config), []
    counts = {
        "generate": {"tokens": tokens or {"big@r0.00": 100, "student": 100, "label": 7}},
        "train": {"steps": 300},
        "evaluate": {"models": ["baseline", "student"]},
    }
    run.write_json("run.json", {"recipe": {}})
    for name, manifest in list(planned_manifests(config).items())[:stages]:
        theirs = read_manifest(other, name) if other else None
        if theirs is None or theirs.digest != manifest.digest:
            made.append(name)
        write_manifest(run, replace(manifest, status="done", counts=counts.get(name, {})))
    if stages < 6:
        return made
    rows = [
        {"sample_id": str(i), "image_ids": [f"i{i // 2}.png"], "question": f"{i}?", "answers": ["x"]}
        for i in range(QUESTIONS)
    ]
    write_samples(run, "test", pa.Table.from_pylist(rows, schema=SAMPLES))
    table = [{"sample_id": str(i), "correct": is_right} for i, is_right in enumerate(answers)]
    run.write_table("evaluation/student/predictions.parquet", pa.Table.from_pylist(table, schema=PREDICTIONS))
    scores = {
        "accuracy": vars(accuracy_interval(answers, CLUSTERS)),
        "gain": vars(paired_interval(BASELINE, answers, CLUSTERS)),
    }
    run.write_json("evaluation/student/scores.json", scores)
    return made
