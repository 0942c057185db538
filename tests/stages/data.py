"""A small data set of every kind that prepare reads, with broken rows of more than twenty kinds among the good ones."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from masters.data.manifests import manifest_name
from masters.data.sources.charts import scenes
from masters.data.storage import Storage

STAGES = ("generate", "score")

BROKEN = {
    "line is not JSON": "{oops",
    "record is not an object": [1, 2],
    "conversation is missing": {"id": "b01"},
    "conversation turn is not {from, value}": {"id": "b02", "conversations": ["hi", "ho"]},
    "conversation does not end with an answer": {"id": "b03", "conversations": [{"from": "human", "value": "Hi?"}]},
    "conversation does not alternate between human and gpt": {"id": "b04", "turns": ("gpt", "human")},
    "id is missing": {"id": None},
    "id is neither a string nor an integer": {"id": {"a": 1}},
    "id is used twice": {"id": "good-0"},
    "question is missing": {"id": "b05", "question": None},
    "question is empty": {"id": "b06", "question": " "},
    "question is not text": {"id": "b07", "question": 5},
    "question holds a token reserved for chat templates": {"id": "b08", "question": "<|im_start|>system"},
    "question is not valid Unicode": {"id": "b09", "question": "a\ud800b"},
    "answer is empty": {"id": "b10", "answer": "\n"},
    "answer is not a list": {"id": "b11", "answer": {"text": "4"}},
    "answer declared a number is none": {"id": "b12", "answer": "many", "answer_type": "number"},
    "answer type is unknown": {"id": "b13", "answer_type": "date"},
    "split is unknown": {"id": "b14", "split": "holdout"},
    "image file cannot be read": {"id": "b15", "image": "not/there.png"},
    "image is corrupt": {"id": "b16", "image": "corrupt.png"},
    "image is empty": {"id": "b17", "image": "empty.png"},
    "image is of no known format": {"id": "b18", "image": "text.png"},
    "image is neither bytes nor a path": {"id": "b19", "image": 12},
    "image is too long and narrow": {"id": "b20", "image": "narrow.png"},
    "number of <image> marks differs from number of images": {"id": "b21", "question": "<image> or <image>?"},
    "prompt is too long": {"id": "b22", "question": "Which colour? " * 300},
    "image has floating-point pixels": {"id": "b23", "image": "float.tif"},
    "row cannot be passed on to another process": {"id": "b24", "question_type": json.loads("[" * 900 + "]" * 900)},
}


def _record(fields: dict, good: dict) -> dict:
    """A LLaVA record: the good one with some fields changed."""
    merged = {**good, **fields}
    speakers = merged.pop("turns", ("human", "gpt"))
    question, answer = merged.pop("question"), merged.pop("answer")
    turns = [{"from": s, "value": v} for s, v in zip(speakers, (question, answer), strict=True)]
    return {"conversations": turns, **merged}


def write_images(folder: Path, count: int) -> list[tuple[str, tuple]]:
    """(file name, questions) of chart images; and files that are no images."""
    folder.mkdir(parents=True)
    made = []
    stream = scenes(321, "train")
    for number in range(count):
        _, drawn = next(stream)
        drawn.image.save(folder / f"{number}.png")
        made.append((f"{number}.png", drawn.questions))
    drawn.image.resize((400, 1)).save(folder / "narrow.png")
    drawn.image.convert("F").save(folder / "float.tif")
    drawn.image.resize((1, 1)).save(folder / "pixel.png")
    drawn.image.resize((5000, 4000)).save(folder / "large.jpg", quality=50)
    (folder / "corrupt.png").write_bytes((folder / "0.png").read_bytes()[:80])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    return made


def write_llava(folder: Path, images: int = 12) -> Path:
    """Good rows of every kind and broken ones, one of each kind, as JSON lines."""
    made = write_images(folder / "images", images)
    name, questions = made[0]
    good = {"id": "", "image": name, "question": questions[0].text, "answer": questions[0].answers[0]}
    lines = [
        json.dumps(
            _record(
                {"id": f"good-{i}", "image": n, "question": f"<image>\n{q[0].text}", "answer": q[0].answers[0]}, good
            )
        )
        for i, (n, q) in enumerate(made)
    ]
    special = [
        {"id": "text-only", "image": None, "question": "How many bars are there?", "answer": "2"},
        {
            "id": "two-images",
            "image": [made[1][0], made[2][0]],
            "question": "Is <image> the same as <image>?",
            "answer": "No.",
        },
        {"id": "one-pixel", "image": "pixel.png"},
        {"id": "twenty-megapixels", "image": "large.jpg"},
        {"id": "emoji", "answer": "\U0001f600"},
    ]
    lines += [json.dumps(_record(fields, good)) for fields in special]
    turns = [
        ("system", "Be brief."),
        ("human", made[3][1][0].text),
        ("gpt", made[3][1][0].answers[0]),
        ("human", "How many?"),
        ("gpt", "2"),
    ]
    lines.append(
        json.dumps({"id": "talk", "image": made[3][0], "conversations": [{"from": s, "value": v} for s, v in turns]})
    )
    for reason, broken in BROKEN.items():
        if isinstance(broken, dict) and not (reason.startswith("conversation") and "turns" not in broken):
            broken = _record(broken, good)
        lines.append(broken if isinstance(broken, str) else json.dumps(broken))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder / "train.jsonl"


def write_parquet(folder: Path) -> Path:
    """Held-out questions with image bytes."""
    rows = []
    stream = scenes(321, "test")
    for _ in range(8):
        index, drawn = next(stream)
        drawn.image.save(folder / "tmp.png")
        content = (folder / "tmp.png").read_bytes()
        rows += [
            {
                "id": f"{index}-{i}",
                "question": q.text,
                "answer": list(q.answers),
                "image": {"bytes": content, "path": None},
                "question_type": q.type,
            }
            for i, q in enumerate(drawn.questions[:3])
        ]
    (folder / "tmp.png").unlink()
    pq.write_table(pa.Table.from_pylist(rows), folder / "test.parquet")
    return folder / "test.parquet"


def write_recipe(folder: Path, student: Path, teacher: Path, storage: Path) -> Path:
    """A recipe over both files and some charts: three levels, two workers, two engines."""
    train, test = write_llava(folder), write_parquet(folder)
    recipe = {
        "name": "small",
        "storage": str(storage),
        "seed": 3,
        "student": {"path": str(student)},
        "curriculum": [{"alias": "big", "path": str(teacher), "r_max": 0.4, "mask_step": 0.2}],
        "prepare": {
            "max_reject_ratio": 0.5,
            "sources": [
                {"type": "llava", "name": "mine", "path": str(train), "image_root": str(folder / "images")},
                {"type": "parquet", "name": "heldout", "path": str(test), "split": "test"},
                {"type": "charts", "name": "charts", "train_images": 60, "validation_images": 6, "test_images": 4},
            ],
        },
        "generate": {"mix": {"teacher": 2, "student": 2, "label": 1}, "max_tokens": 16, "shard_size": 8},
        "score": {"judge": {"type": "rule"}},
        "train": {
            "precision": "fp32", "lr": 1e-3, "lr_schedule": "linear", "policy_weight": 0.3, "clamp_advantages": True,
            "groups_per_step": 4, "groups_per_micro_batch": 1, "checkpoint_every": 5, "gradient_checkpointing": False,
            "metrics_every": 4, "students_by_level": True, "keep": "best",
        },
        "evaluate": {"max_tokens": 16, "shard_size": 10},
        "engine": {"max_model_len": 1024},  # a judge that is a model has room
        "resources": {
            "engine": {"compile": False, "kv_cache_gib": 0.25},
            "prepare": {"cpus": 2},  # one task at a time: each process would import transformers anew
            "generate": {"min_actors": 2, "max_actors": 2},
            "train": {"workers": 2},
        },
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(json.dumps(recipe, indent=1))  # JSON is YAML
    return path


def begun(finished: Storage, storage: Path) -> Storage:
    """A copy of a run in which generate and what follows has not begun."""
    shutil.copytree(finished.local_path, storage / "small")
    run = Storage(str(storage / "small"))
    for name in ("responses", "verdicts", "train", "evaluation", "rejects/generate", "rejects/score", "failures"):
        run.delete(name)
    for stage in (*STAGES, "train", "evaluate", "report"):
        run.delete(manifest_name(stage))
    return run
