"""evaluate: greedy accuracy of baseline student, teachers and trained student on held-out questions, in one harness."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from masters.config.run import RunConfig
from masters.data.manifests import read_manifest
from masters.data.samples import read_samples
from masters.data.shards import Shard, cut, response_seed
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS
from masters.judging.matching import matches
from masters.models.folder import fingerprint, parameter_count
from masters.reporting.progress import Screen
from masters.reporting.statistics import accuracy_interval, paired_interval
from masters.stages.base import Stage
from masters.stages.generate import UNMASKED, ask
from masters.stages.shard_pool import EngineSpec, Job, run_shards

BASELINE, TRAINED = "baseline", "student"
_PARTS = "evaluation/parts"


def parts(config: RunConfig) -> dict[str, Any]:
    """What the scores depend on."""
    return {
        "evaluate": config.evaluate.model_dump(mode="json"),
        "engine": config.engine.model_dump(mode="json"),
        "numeric_tolerance": config.score.numeric_tolerance,
        "student": fingerprint(config.student.path, config.hub_token_env),
        "teachers": {t.alias: fingerprint(t.path, config.hub_token_env) for t in config.curriculum},
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Every model answers every question of the split."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    split = config.evaluate.split
    total, images = prepared.counts[split], prepared.counts["images_per_prompt"]
    specs = models(config, images)
    task = PredictTask(config.evaluate.max_tokens, config.score.numeric_tolerance)
    jobs = [
        Job(task, list(cut(name, UNMASKED, split, 0, total, config.evaluate.shard_size)), spec)
        for name, spec in specs.items()
    ]
    with screen.track("evaluate", total * len(jobs), "answers") as tracker:
        run_shards(jobs, config.resources.evaluate, run, tracker)
    samples = read_samples(run, split, 0, total)
    predictions = {job.shards[0].author: _merge(run, job.shards) for job in jobs}
    scores = {name: _score(samples, table, predictions[BASELINE]) for name, table in predictions.items()}
    for name, spec in specs.items():
        scores[name]["parameters"] = _parameters(spec, config, run)
        run.write_table(f"evaluation/{name}/predictions.parquet", predictions[name])
        run.write_json(f"evaluation/{name}/scores.json", scores[name])
    run.delete(_PARTS)
    value, low, high = (f"{100 * scores[TRAINED]['gain'][key]:+.1f}" for key in ("value", "low", "high"))
    words = f"{total:,} questions of {split}: student {value} [{low}, {high}] points"
    return {"models": list(specs), "questions": total}, words


STAGE = Stage("evaluate", ("prepare", "train"), ("evaluation", "rejects/evaluate", "failures/evaluate"), parts, execute)


def models(config: RunConfig, images_per_prompt: int = 1) -> dict[str, EngineSpec]:
    """The models that are compared, by name: baseline, teachers by alias, student."""
    specs = {BASELINE: EngineSpec.of(config.student, config, images_per_prompt)}
    if config.evaluate.teachers:
        specs |= {t.alias: EngineSpec.of(t, config, images_per_prompt) for t in config.curriculum}
    return {
        **specs,
        TRAINED: EngineSpec.of(config.student, config, images_per_prompt, stored="train/student"),
    }


@dataclass(frozen=True)
class PredictTask:
    """Greedy answers, matched with the accepted ones."""

    max_tokens: int
    tolerance: float
    stage: str = "evaluate"
    folder: str = _PARTS

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's samples."""
        return read_samples(run, shard.split, shard.start, shard.stop)

    def compute(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], engine: Any, chat: Any) -> pa.Table:
        """Ask the engine once for all."""
        from masters.engines.masked_vllm import Request, Sampling

        seeds = [response_seed(0, row["sample_id"], shard.author) for row in rows]
        requests = [Request(*ask(run, row, chat), seed) for row, seed in zip(rows, seeds, strict=True)]
        answers = engine.generate(requests, Sampling(1, self.max_tokens, 0.0))
        records = [
            {
                "sample_id": row["sample_id"],
                "question_type": row["question_type"],
                "text": answer[0].text,
                "correct": matches(answer[0].text, row["answers"], row["answer_type"], self.tolerance, row["options"]),
            }
            for row, answer in zip(rows, answers, strict=True)
        ]
        return pa.Table.from_pylist(records, schema=PREDICTIONS)


def _merge(run: Storage, shards: Sequence[Shard]) -> pa.Table:
    return run.read_tables((shard.file(_PARTS) for shard in shards), PREDICTIONS)


def _score(samples: Sequence[dict[str, Any]], predictions: pa.Table, baseline: pa.Table) -> dict[str, Any]:
    """Accuracy over all and by question type, and the paired gain over the baseline. An unanswered question is wrong.

    Intervals are clustered by (first) image; a question without one is a cluster of its own.
    """
    images = {sample["sample_id"]: (sample["image_ids"] or [sample["sample_id"]])[0] for sample in samples}
    mine, theirs = (
        {row["sample_id"]: row["correct"] for row in table.to_pylist()} for table in (predictions, baseline)
    )
    correct, before = ([table.get(key, False) for key in images] for table in (mine, theirs))
    by_type = defaultdict(list)
    for sample, right in zip(samples, correct, strict=True):
        by_type[sample["question_type"]].append((right, images[sample["sample_id"]]))
    clusters = list(images.values())
    return {
        "accuracy": asdict(accuracy_interval(correct, clusters)),
        "gain": asdict(paired_interval(before, correct, clusters)),
        "by_type": {
            kind: asdict(accuracy_interval(*zip(*rows, strict=True))) for kind, rows in sorted(by_type.items())
        },
        "answered": len(mine),
    }


def _parameters(spec: EngineSpec, config: RunConfig, run: Storage) -> int:
    """Counted on a node of the pool: the weights may be large, and they are there already."""
    import ray

    from masters.stages.cluster import connect, remote_options

    connect()
    return ray.get(ray.remote(**remote_options(config.resources.evaluate))(_count).remote(spec, run))


def _count(spec: EngineSpec, run: Storage) -> int:
    with spec.folder(run) as folder:
        return parameter_count(folder)
