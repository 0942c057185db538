"""A finished run of any size, of tables only: as many files and rows as a real one has, and what they say is drawn at random.

There are 8 responses and verdicts to each sample, rewards of every response from 16 workers, the metrics of every step, rejects,
and a few images. 1.5 million samples take 3 minutes and 3 GB.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from masters.algo.schedule import level_index
from masters.config.load import validate
from masters.config.run import RunConfig
from masters.data.image_shards import ImageShards
from masters.data.images import check_content
from masters.data.manifests import write_manifest
from masters.data.metrics import METRICS, REWARDS_FOLDER
from masters.data.order import permutation_key
from masters.data.samples import write_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, REJECTS, RESPONSES, REWARDS, SAMPLES, VERDICTS, counted
from masters.pipeline import STAGES, run_directory
from masters.reporting.statistics import accuracy_interval, paired_interval
from masters.stages.base import plan
from masters.stages.generate import author_shards, teacher_shards
from masters.training.curriculum import Step, steps

TEST, RANKS, WORDS, TOKENS, MATRICES = 2_000, 16, 14, 60, 700
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Made:
    """A run directory with its recipe; `ids` are those of the train samples, in position order."""

    recipe: Path
    config: RunConfig
    run: Storage
    ids: pa.StringArray


def make_run(folder: Path, samples: int) -> Made:
    """A finished run but for its report, with so many train samples."""
    models = ROOT / "models" / "tiny"
    written = {
        "name": "synthetic",
        "storage": str(folder),
        "seed": 5,
        "student": {"path": str(models / "student")},
        "curriculum": [{"alias": "big", "path": str(models / "teacher"), "r_max": 0.2, "mask_step": 0.05}],
        "prepare": {"sources": [{"type": "charts", "train_images": -(-samples // 3), "test_images": TEST}]},
        "score": {"judge": {"type": "rule"}},
        "engine": {"max_model_len": 2048},
    }
    recipe = folder / "synthetic.yaml"
    recipe.write_text(json.dumps(written))  # JSON is YAML
    config = validate(written, str(recipe))
    run, rng = run_directory(config), np.random.default_rng(0)
    ids = {split: _ids(split, count, config.seed) for split, count in (("train", samples), ("test", TEST))}
    made = Made(recipe, config, run, ids["train"])
    for split, names in ids.items():
        _write_samples(made, split, names)
    planned = steps(config, samples)
    _write_shards(made, rng)
    _write_training(made, planned, rng)
    _write_evaluation(made, ids["test"], rng)
    _write_rest(made, samples, len(planned))
    return made


def _ids(split: str, count: int, seed: int) -> pa.StringArray:
    names = [f"charts/{split}-{number:07d}" for number in range(count)]
    keys = np.array([permutation_key(seed, name) for name in names], np.uint64)
    return pa.array(names).take(pa.array(np.argsort(keys)))


def _write_samples(made: Made, split: str, ids: pa.StringArray) -> None:
    """All of a split, about one of eight images each."""
    images = ImageShards(made.run, f"charts/{split}")
    pictures = [images.add(check_content(_png(shade), 10_000)) for shade in range(0, 256, 32)]
    images.close()
    total, names = len(ids), made.config.levels(0)
    kinds = ["count", "colour", "compare", "read"]
    rows = [
        {"image_ids": [pictures[i % 8]], "question": f"<image>\nHow high is bar {i} of the chart?", "answer": str(i % 97),
         "answers": [str(i % 97)], "answer_type": "number", "question_type": kinds[i % 4], "prompt_tokens": 80,
         "history": [], "source": "charts", "split": split}
        for i in range(4096)
    ]  # fmt: skip
    template = pa.Table.from_pylist(rows, SAMPLES)
    for start in range(0, total, 4096):
        positions = range(start, min(start + 4096, total))
        levels = [[names[level_index(p, total, len(names))]] if split == "train" else [] for p in positions]
        table = template.slice(0, len(positions))
        for name, column in (
            ("sample_id", ids[start : positions.stop]),
            ("position", pa.array(positions)),
            ("levels", pa.array(levels, pa.list_(pa.string()))),
        ):
            table = table.set_column(SAMPLES.get_field_index(name), SAMPLES.field(name), column)
        write_samples(made.run, split, table, start)


def _png(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 90, 160)).save(sink, "PNG")
    return sink.getvalue()


def _texts(rng: np.random.Generator, count: int) -> pa.StringArray:
    words = np.array(
        ["the", "bar", "on", "left", "is", "about", "seven", "higher", "than", "blue", "one", "so", "answer"]
    )
    return pa.array([" ".join(row) for row in words[rng.integers(0, len(words), (count, WORDS))]])


def _write_shards(made: Made, rng: np.random.Generator) -> None:
    """Responses and verdicts of every shard. Words and tokens are the same in all of them, ids are not."""
    config, total = made.config, len(made.ids)
    mix, size = config.generate.mix, config.generate.shard_size * 4
    texts, judged = _texts(rng, size), _texts(rng, size)
    tokens = pa.ListArray.from_arrays(
        pa.array(np.arange(0, size * TOKENS + 1, TOKENS), pa.int32()),
        pa.array(rng.integers(0, 150_000, size * TOKENS), pa.int32()),
    )
    finish = pa.array(np.where(rng.random(size) < 0.03, "length", "stop"))
    verdicts = pa.array(rng.integers(0, 2, size), pa.int8(), mask=rng.random(size) < 0.01)
    seeds = pa.array(rng.integers(0, 1 << 62, size))

    def write(shard: Shard) -> None:
        each = mix.teacher if "@" in shard.author else mix.student
        rows = (shard.stop - shard.start) * each
        ids = made.ids.take(pa.array(np.repeat(np.arange(shard.start, shard.stop), each)))
        columns = {
            "sample_id": ids, "author": pa.array([shard.author] * rows),
            "index": pa.array(np.tile(np.arange(each), rows // each), pa.int32()),
        }  # fmt: skip
        more = {"text": texts, "token_ids": tokens, "finish_reason": finish, "seed": seeds}
        found = {
            "response_digest": texts,
            "verdict": verdicts,
            "judge": pa.array(["rule"] * size),
            "explanation": judged,
        }
        for folder, schema, own in (("responses", RESPONSES, more), ("verdicts", VERDICTS, found)):
            arrays = {**columns, **{name: column[:rows] for name, column in own.items()}}
            made.run.write_table(shard.file(folder), counted(pa.table(arrays, schema=schema)))

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, [*teacher_shards(config, 0, total), *author_shards(config, "student", total)]):
            pass


def _write_training(made: Made, planned: list[Step], rng: np.random.Generator) -> None:
    """Metrics of every step; the rewards of every worker between two checkpoints."""
    run, mix, every = made.run, made.config.generate.mix, made.config.train.checkpoint_every
    noise = rng.random((len(planned), 30))
    run.write(METRICS, "".join(json.dumps(row) + "\n" for row in _metrics(planned, noise, mix)).encode())
    each = mix.teacher + mix.student
    columns = rng.random((5, each * -(-64 * every // RANKS)), np.float32)

    def write(part: tuple[int, int]) -> None:
        of_part = planned[slice(*part)]
        stops, levels = np.array([s.stop for s in of_part]), np.array([s.level for s in of_part])
        for rank in range(RANKS):
            own = np.arange(of_part[0].start + rank, of_part[-1].stop, RANKS)
            step = np.searchsorted(stops, own, "right")
            authors = np.full((len(own), each), "student", object)
            authors[:, : mix.teacher] = levels[step][:, None]
            arrays = [
                pa.array(np.repeat(step + part[0], each)),
                made.ids.take(pa.array(np.repeat(own, each))),
                pa.array(authors.ravel()),
                pa.array([*range(mix.teacher), *range(mix.student)] * len(own), pa.int32()),
                *(pa.array(column[: each * len(own)]) for column in columns),
            ]
            name = f"{REWARDS_FOLDER}/{part[1]:08d}-{rank:04d}.parquet"
            run.write_table(name, pa.table(arrays, schema=REWARDS))

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, pairwise([*range(0, len(planned), every), len(planned)])):
            pass


def _metrics(planned: list[Step], noise: np.ndarray, mix: Any) -> Iterator[dict[str, Any]]:
    """A row as long as a real one for every step."""
    names = [
        "accuracy_reward", "distill_reward", "divergence", "divergence_student", "divergence_teacher", "kl_nats", "loss_distill",
        "loss_kl", "loss_policy", "useful_share", "time_data", "time_teacher", "time_frozen", "time_student", "time_objective",
        "time_optimiser", "time_saving", "time_step", "time_ranks", "time_unix", "tokens_per_second", "peak_memory_gib",
    ]  # fmt: skip
    for step, values in zip(planned, noise.tolist(), strict=True):
        responses = (step.stop - step.start) * (mix.teacher + mix.student)
        row = {
            "step": step.number,
            "level": step.level,
            "lr": 1e-6,
            "groups": step.stop - step.start,
            "gradient_norm": values[0],
        }
        row |= {"teacher": "big", "mask_ratio": float(step.ratio), "sparsity": float(step.ratio), "dropped_share": 0.0}
        row |= dict(zip(names, values, strict=False))
        row |= {"log_probability_right": -values[-1], "log_probability_wrong": -values[-2]}
        row |= {
            f"n_{name}": float(responses) for name in ("divergence", "kl_nats", "responses", "tokens", "trained_tokens")
        }
        if step.number % 10 == 0:
            row |= {f"gradient_norm_{term}": values[-3] for term in ("policy", "distill", "kl")}
        yield row | {"n_dropped": 0.0}


def _write_evaluation(made: Made, ids: pa.StringArray, rng: np.random.Generator) -> None:
    """Predictions and scores of three models."""
    before = rng.random(TEST) < 0.4
    for name in ("baseline", "big", "student"):
        correct = before if name == "baseline" else before | (rng.random(TEST) < 0.3)
        arrays = [ids, pa.array(["count"] * TEST), _texts(rng, TEST), pa.array(correct)]
        made.run.write_table(f"evaluation/{name}/predictions.parquet", pa.table(arrays, schema=PREDICTIONS))
        accuracy = asdict(accuracy_interval(correct.tolist()))
        scores = {
            "accuracy": accuracy,
            "gain": asdict(paired_interval(before.tolist(), correct.tolist(), range(TEST))),
            "by_type": {"count": accuracy},
            "answered": TEST,
            "parameters": 7_620_000_000,
        }
        made.run.write_json(f"evaluation/{name}/scores.json", scores)


def _write_rest(made: Made, samples: int, planned: int) -> None:
    """Thresholds, rejects, and what the stages counted."""
    run, config = made.run, made.config
    ratios = [key for teacher in config.curriculum for key in teacher.ratio_keys]
    tensors = {
        f"layer.{i}": {"numel": 10_000, "masked": {r: int(float(r) * 10_000) - i % 7 for r in ratios if float(r)}}
        for i in range(MATRICES)
    }
    run.write_json("thresholds/big.json", {"tensors": tensors})
    reasons: Counter[str] = Counter()
    for chunk in range(samples // 15_000 + 1):
        rows = [
            {"source": "charts", "row": f"{chunk}-{i}", "reason": f"broken in way {i % 5}", "detail": "x"}
            for i in range(150)
        ]
        reasons.update(row["reason"] for row in rows)
        run.write_table(f"rejects/prepare/charts/00000-00000-{chunk:05d}.parquet", pa.Table.from_pylist(rows, REJECTS))
    rows = [{"source": "student", "row": "charts/x", "reason": "the engine fails on this row", "detail": "x"}]
    run.write_table("rejects/generate/student-00000000.parquet", pa.Table.from_pylist(rows, REJECTS))
    each = {"student": 4 * samples, **dict.fromkeys(config.levels(0), 4 * samples // 5)}
    counts: dict[str, dict[str, Any]] = {
        "prepare": {
            "train": samples,
            "validation": 0,
            "test": TEST,
            "rows": samples,
            "images": 8,
            "rejects": dict(reasons),
        },
        "mask": {"big": {"matrices": MATRICES, "weights": MATRICES * 10_000}},
        "generate": {
            "responses": each,
            "tokens": {n: TOKENS * c for n, c in each.items()},
            "truncated": {},
            "rejects": 1,
        },
        "score": {
            "right": {n: c // 2 for n, c in each.items()},
            "wrong": {n: c // 2 for n, c in each.items()},
            "null": {},
        },
        "train": {"steps": planned, "dropped": 0},
        "evaluate": {"models": ["baseline", "big", "student"], "questions": TEST},
    }
    for name, manifest in plan(STAGES, config).items():
        if name in counts:
            write_manifest(run, replace(manifest, status="done", counts=counts[name], seconds=3600.0))
    run.write_json("run.json", {"recipe": config.model_dump(mode="json"), "versions": {"machine": "x86_64"}})
