"""evaluate: greedy accuracy of baseline student, teachers and trained student on held-out questions, in one harness.

Where the recipe keeps students by level, each of them is asked, and the run's student is one of these: the last, or the best
on the validation split (`masters.data.students` says why it is chosen here). Every model then answers the questions of
`evaluate.split`, which choose nothing, so that the accuracy of the one that was chosen is not flattered by the choice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from masters.benchmarks.recipe import parts as benchmark_parts
from masters.config.evaluate import EvaluateConfig
from masters.config.run import RunConfig
from masters.config.score import PromptedJudge
from masters.data.manifests import read_manifest
from masters.data.samples import read_samples
from masters.data.shards import Shard, cut, response_seed
from masters.data.storage import Storage
from masters.data.students import (
    CHOSEN,
    LAST,
    VALIDATION,
    all_levels,
    best_level,
    check_choice,
    is_level_student,
    level_folder,
    level_student,
)
from masters.data.tables import PREDICTIONS
from masters.judging.matching import matches
from masters.models.folder import fingerprint, parameter_count
from masters.reporting.levels import chosen_in_words
from masters.reporting.progress import Screen
from masters.reporting.statistics import Interval, accuracy_interval, paired_interval
from masters.stages.base import Stage
from masters.stages.benchmark_files import Prepared, prepare_benchmarks
from masters.stages.benchmark_tasks import PARTS, sampling
from masters.stages.benchmarks import ask_again, ask_jobs, judge_answers, write_results
from masters.stages.fetch import Need
from masters.stages.generate import UNMASKED, ask
from masters.stages.score import judge_identity, judging_model
from masters.stages.shard_pool import Job, run_stage_shards
from masters.stages.shard_worker import EngineSpec, Ready

BASELINE, TRAINED = "baseline", "student"


def parts(config: RunConfig) -> dict[str, Any]:
    """What the scores depend on."""
    return {
        "evaluate": config.evaluate.parts,
        "engine": config.engine.model_dump(mode="json"),
        "numeric_tolerance": config.score.numeric_tolerance,
        "student": fingerprint(config.student.path, config.hub_token_env),
        "teachers": {t.alias: fingerprint(t.path, config.hub_token_env) for t in config.curriculum},
        **({"keep": config.train.keep} if config.train.keep != "last" else {}),
        **config.images.parts,
        **_benchmark_parts(config),
    }


def _benchmark_parts(config: RunConfig) -> dict[str, Any]:
    """Files are read for their md5: another file is another score. The judge is who reads what the rules leave open."""
    if not config.evaluate.benchmarks:
        return {}
    judged = isinstance(config.score.judge, PromptedJudge)
    return {
        "benchmarks": benchmark_parts(config),
        "max_image_pixels": config.prepare.max_image_pixels,
        **({"benchmark_judge": judge_identity(config, len(config.curriculum) - 1)} if judged else {}),
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Every model answers every question of the split; where a student is chosen, students those of validation, too."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    check_choice(config, prepared.counts)
    benchmarks = prepare_benchmarks(config, run, screen)
    specs = models(config, max(prepared.counts["images_per_prompt"], *(one.images_per_prompt for one in benchmarks), 0))
    jobs, others = _jobs(config, specs, prepared.counts), _benchmark_jobs(config, specs, benchmarks)
    engines = run_stage_shards("answers", _by_model(specs, jobs, others), run, screen)
    engines |= ask_again(others, run, screen) | judge_answers(config, others, run, screen)
    answers = {key: run.read_tables((s.file(PARTS) for s in job.shards), PREDICTIONS) for key, job in jobs.items()}
    split = config.evaluate.split
    samples = {name: read_samples(run, name, 0, prepared.counts[name]) for name in {name for _, name in jobs}}
    words, mine = "", TRAINED
    if config.train.students_by_level:
        chosen = choose(config, samples, answers)
        mine = level_student(chosen["level"])
        specs[TRAINED], answers[TRAINED, split] = specs[mine], answers[mine, split]
        run.write_json(CHOSEN, chosen)
        words = f"; {chosen_in_words(chosen)}"
    ladder = [name for name in specs if not is_level_student(name)]
    scores = {name: _score(samples[split], answers[name, split], answers[BASELINE, split]) for name in specs}
    for name in ladder:
        scores[name]["parameters"] = _parameters(specs[name], config, run)
    for (name, asked), table in answers.items():
        run.write_table(f"evaluation/{name}/{'' if asked == split else asked + '/'}predictions.parquet", table)
    for name, found in scores.items():
        run.write_json(f"evaluation/{name}/scores.json", found)
    words += write_results(config, benchmarks, others, (TRAINED, mine), BASELINE, run)
    run.delete(PARTS)
    gain = Interval(**scores[TRAINED]["gain"])
    total = prepared.counts[split]
    return (
        {"models": ladder, "questions": total, "engines": engines},
        f"{total:,} questions of {split}: student {gain.in_points} points{words}",
    )


def _models(config: RunConfig) -> list[Need]:
    teachers = config.curriculum if config.evaluate.teachers else ()
    judge = judging_model(config, len(config.curriculum) - 1) if config.evaluate.benchmarks else None
    return [
        *(Need(model.path, config.resources.evaluate) for model in (config.student, *teachers)),
        *([Need(judge.path, config.resources.score)] if judge else []),
    ]


_OUTPUTS = ("evaluation", "rejects/evaluate", "failures/evaluate")
STAGE = Stage("evaluate", ("prepare", "train"), _OUTPUTS, parts, execute, _models, continuing=_OUTPUTS[-1:])


def models(config: RunConfig, images_per_prompt: int = 1) -> dict[str, EngineSpec]:
    """The models that are asked, by name: baseline, teachers by alias, and student, or those by level in its place.

    All with the weights of their folders: a student that answers in generate with compressed ones is not examined so.
    """
    whole = config.student.model_copy(update={"quantization": None})
    specs = {BASELINE: EngineSpec.of(whole, config, images_per_prompt)}
    if config.evaluate.teachers:
        specs |= {t.alias: EngineSpec.of(t, config, images_per_prompt) for t in config.curriculum}
    folders = {TRAINED: LAST}
    if config.train.students_by_level:
        folders = {level_student(level): level_folder(level) for level in all_levels(config)}
    return specs | {
        name: EngineSpec.of(whole, config, images_per_prompt, stored=folder) for name, folder in folders.items()
    }


def _jobs(config: RunConfig, specs: Mapping[str, EngineSpec], totals: Mapping[str, int]) -> dict[tuple[str, str], Job]:
    """By model and split; `totals` are numbers of samples. Jobs of one model follow each other: they share its engine."""
    task = PredictTask(config.evaluate, config.score.numeric_tolerance)
    jobs = {}
    for name, spec in specs.items():
        chooses = config.train.keep == "best" and is_level_student(name)
        for split in (VALIDATION, config.evaluate.split) if chooses else (config.evaluate.split,):
            author = name if split == config.evaluate.split else f"{name}@{split}"  # names shards, rejects and failures
            shards = cut(author, UNMASKED, split, 0, totals[split], config.evaluate.shard_size)
            jobs[name, split] = Job(task, list(shards), _pool(name, spec), config.resources.evaluate, spec)
    return jobs


def _benchmark_jobs(
    config: RunConfig, specs: Mapping[str, EngineSpec], asked: Sequence[Prepared]
) -> dict[tuple[str, str], Job]:
    """By model and benchmark."""
    jobs: dict[tuple[str, str], Job] = {}
    for name, spec in specs.items():
        jobs |= ask_jobs(config, name, spec, _pool(name, spec), asked)
    return jobs


def _by_model(specs: Mapping[str, EngineSpec], *jobs: Mapping[tuple[str, str], Job]) -> list[Job]:
    """All jobs of a model follow each other, so that its engine starts once."""
    return [job for name in specs for group in jobs for (model, _), job in group.items() if model == name]


def _pool(name: str, spec: EngineSpec) -> str:
    """On a CPU all models share one, each engine taking the place of the one before."""
    return name if spec.model.gpus_per_engine else "models"


def choose(
    config: RunConfig, samples: Mapping[str, Sequence[dict[str, Any]]], answers: Mapping[tuple[str, str], pa.Table]
) -> dict[str, Any]:
    """Which level's student is the run's, as `masters.data.students.read_chosen` gives it.

    Args:
        samples: by split.
        answers: by model and split: those of the students by level.
    """
    levels, split, by_level = all_levels(config), config.evaluate.split, {}
    last = level = levels[-1]
    if config.train.keep == "best":
        asked = samples[VALIDATION]
        tables = {name: answers[level_student(name), VALIDATION] for name in levels}
        by_level = {name: _score(asked, table, table)["accuracy"] for name, table in tables.items()}
        level = best_level({name: accuracy["value"] for name, accuracy in by_level.items()})
    mine, theirs = (answers[level_student(name), split] for name in (level, last))
    return {
        "keep": config.train.keep,
        "level": level,
        "folder": LAST if level == last else level_folder(level),
        "by_level": by_level,
        "over_last": _score(samples[split], mine, theirs)["gain"],
    }


@dataclass(frozen=True)
class PredictTask:
    """Answers, greedy by default, matched with the accepted ones."""

    config: EvaluateConfig
    tolerance: float
    stage: str = "evaluate"
    folder: str = PARTS

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's samples."""
        return read_samples(run, shard.split, shard.start, shard.stop)

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """A question each."""
        return ask(run, rows, [response_seed(0, row["sample_id"], shard.author) for row in rows], chat)

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Ask the engine once for all."""
        answers = ready.engine.generate(ready.requests, sampling(self.config, self.config.max_tokens))
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
