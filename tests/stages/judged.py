"""A run directory as generate leaves it, written by hand: three levels, the student and the labels about some questions."""

import pyarrow as pa

from masters.config.run import RunConfig
from masters.data.manifests import new_manifest, write_manifest
from masters.data.samples import write_samples
from masters.data.storage import Storage
from masters.data.tables import RESPONSES, SAMPLES, VERDICTS
from masters.stages.generate import author_shards, teacher_shards

SAID = ("red", "Red.", "blue", "", "blue", "It is blue, I think", "yes " * 30)
"""What is answered to question i by the authors, in turn: equal texts of several authors, matches, an empty and a long one."""


def config(folder, judge, name="small", **fields):
    """Of a run over 30 questions in shards of 8; levels begin where no shard of the student does."""
    score = {"judge": judge, **fields.pop("score", {})}
    return RunConfig.model_validate(
        {
            "name": name,
            "storage": str(folder),
            "student": {"path": str(folder)},
            "curriculum": [{"alias": "big", "path": str(folder), "r_max": 0.4, "mask_step": 0.2}],
            "prepare": {"sources": [{"type": "charts", "name": "charts", "train_images": 1, "test_images": 1}]},
            "generate": {
                "mix": {"teacher": 2, "student": 2, "label": 1},
                "shard_size": 8,
                **fields.pop("generate", {}),
            },
            "score": score,
            "engine": {"max_model_len": 1024},
            **fields,
        },
        strict=False,
    )


def write_run(recipe, questions=30):
    """Samples and responses of a recipe; the storage."""
    run = Storage(recipe.storage).folder(recipe.name)
    levels = recipe.levels(0)
    samples = [
        {
            "sample_id": f"a/{i}", "position": i, "levels": [levels[i * len(levels) // questions]], "image_ids": [],
            "system": None, "history": [], "question": f"What colour has shape {i % 20}?", "answer": "red",
            "answers": ["red"], "options": None, "answer_type": "text", "question_type": "", "prompt_tokens": 9,
            "source": "a", "split": "train",
        }
        for i in range(questions)
    ]  # fmt: skip
    write_samples(run, "train", pa.Table.from_pylist(samples, schema=SAMPLES))
    for shard in shards(recipe, questions):
        count = 1 if shard.author == "label" else 2
        rows = [
            {
                "sample_id": f"a/{i}", "author": shard.author, "index": j,
                "text": "red" if shard.author == "label" else SAID[(i + 3 * j + (shard.author == "student")) % len(SAID)],
                "token_ids": [1], "finish_reason": "stop", "seed": 0,
            }
            for i in range(shard.start, shard.stop)
            for j in range(count)
        ]  # fmt: skip
        run.write_table(shard.file("responses"), pa.Table.from_pylist(rows, schema=RESPONSES))
    manifest = new_manifest("prepare", {"seed": 0})
    write_manifest(run, type(manifest)(**{**vars(manifest), "counts": {"train": questions}}))
    return run


def shards(recipe, questions=30):
    """All shards of responses."""
    return [
        *teacher_shards(recipe, 0, questions),
        *author_shards(recipe, "student", questions),
        *author_shards(recipe, "label", questions),
    ]


def tables(run):
    """Verdicts by file: rows of each."""
    return {name: run.read_table(name).to_pylist() for name in run.names("verdicts", ".parquet")}


def rows(run):
    """All verdicts, and the table's schema checked."""
    table = run.read_tables(run.names("verdicts", ".parquet"), VERDICTS)
    return table.to_pylist()


def text(row):
    """The response that a verdict is about."""
    if row["author"] == "label":
        return "red"
    return SAID[(int(row["sample_id"][2:]) + 3 * row["index"] + (row["author"] == "student")) % len(SAID)]
