"""Benchmarks in evaluate: who is asked what, what is asked again, what the judge reads, and the results.

evaluation/benchmarks/results.json                 all that people ask for: by benchmark and model, and the means
evaluation/benchmarks/<benchmark>/<model>.json     one score, with its parts by split and category
evaluation/benchmarks/<benchmark>/<model>.parquet  answers, what was made of each, and the cluster of its question
evaluation/benchmarks/changed.parquet              some answers that training changed, with images, for the report
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from masters.benchmarks import Outcome, Score, summarise
from masters.benchmarks.intervals import average, average_gain, gain
from masters.benchmarks.paper import UNKNOWN, printed
from masters.config.run import RunConfig
from masters.config.score import EndpointJudge, ModelJudge, PromptedJudge
from masters.data.shards import Shard, cut
from masters.data.storage import Storage
from masters.data.students import is_level_student
from masters.reporting.benchmarks import CHANGED, RESULTS
from masters.reporting.progress import Screen
from masters.reporting.statistics import Interval
from masters.stages.benchmark_files import FOLDER, Prepared
from masters.stages.benchmark_gallery import changed_answers
from masters.stages.benchmark_tasks import (
    PARTS,
    AskTask,
    JudgeTask,
    answered_rows,
    as_table,
    author,
    from_table,
    judged_shard,
    open_rows,
    outcomes_of,
)
from masters.stages.generate import UNMASKED
from masters.stages.score import judging_model
from masters.stages.shard_pool import Job, run_stage_shards
from masters.stages.shard_worker import EngineSpec

Key = tuple[str, str]
"""A model, and a benchmark."""


def ask_jobs(config: RunConfig, model: str, spec: EngineSpec, pool: str, asked: Sequence[Prepared]) -> dict[Key, Job]:
    """The jobs of one model, by model and benchmark."""
    jobs, size = {}, config.evaluate.shard_size
    for one in asked:
        task = AskTask(one.name, one.wanted.max_tokens, config.evaluate)
        shards = list(cut(author(model, one.name), UNMASKED, one.name, 0, one.askable, size))
        jobs[model, one.name] = Job(task, shards, pool, config.resources.evaluate, spec)
    return jobs


def ask_again(jobs: Mapping[Key, Job], run: Storage, screen: Screen) -> dict[str, Any]:
    """Ask another engine once more where one failed on a row; what its pools did. Rows that fail again have no answer."""
    files = [shard.file(PARTS) for job in jobs.values() for shard in job.shards]
    rows_in = dict(zip(files, run.each(lambda name: run.footer(name).num_rows, files), strict=True))
    short = {key: [s for s in job.shards if rows_in[s.file(PARTS)] < s.stop - s.start] for key, job in jobs.items()}
    again = [Job(job.task, short[key], job.pool, job.resources, job.spec) for key, job in jobs.items() if short[key]]
    for shard in (shard for job in again for shard in job.shards):
        run.delete(shard.file(PARTS))
        run.delete(f"rejects/evaluate/{shard.author}-{shard.start:08d}.parquet")
    if not again:
        return {}
    rows = sum(shard.stop - shard.start for job in again for shard in job.shards)
    screen.line("evaluate", f"engines failed on questions of benchmarks: their {rows:,} rows are asked once more")
    return run_stage_shards("answers", again, run, screen)


def judge_answers(config: RunConfig, jobs: Mapping[Key, Job], run: Storage, screen: Screen) -> dict[str, Any]:
    """Let the judge read what the rules leave open, where the recipe has one; what its pools did."""
    judge = config.score.judge
    if not isinstance(judge, PromptedJudge):
        return {}
    last, resources = len(config.curriculum) - 1, config.resources.score
    model = judging_model(config, last)
    spec = EngineSpec.of(model, config, 1) if model else None
    asked = []
    for (name, benchmark), job in jobs.items():
        shards = [judged_shard(s) for s in job.shards if open_rows(benchmark, answered_rows(run, benchmark, s))]
        task = JudgeTask(benchmark, name, judge, judge_name(config), config.engine.max_model_len, resources.max_actors)
        asked.append(Job(task, shards, "judge", resources, spec))
    return run_stage_shards("answers of benchmarks", asked, run, screen) if any(job.shards for job in asked) else {}


def judge_name(config: RunConfig) -> str:
    """Of who reads what the rules leave open; empty where nobody does."""
    judge = config.score.judge
    if isinstance(judge, EndpointJudge):
        return judge.model
    if isinstance(judge, ModelJudge):
        return judge.path
    return f"teacher {config.curriculum[-1].alias}" if isinstance(judge, PromptedJudge) else ""


def write_results(
    config: RunConfig,
    asked: Sequence[Prepared],
    jobs: Mapping[Key, Job],
    chosen: tuple[str, str],
    baseline: str,
    run: Storage,
) -> str:
    """Score all answers, write what came out; a sentence about it, empty where the recipe wants no benchmark.

    Args:
        config: the recipe.
        asked: benchmarks.
        jobs: whose answers are there.
        chosen: what the run's student is called, and the model whose answers are its own.
        baseline: the model that gains are over.
        run: the run directory.
    """
    if not asked:
        return ""
    student, source = chosen
    models = list(dict.fromkeys(name for name, _ in jobs))
    scores: dict[str, dict[str, Score]] = {}
    changed = []
    for one in asked:
        scores[one.name], tables = {}, dict[str, pa.Table]()
        for model in models:
            job = jobs[model, one.name]
            found, tables[model] = _outcomes(one, model, job.shards, run)
            names = [model, student] if model == source and student != source else [model]
            for name in names:
                scores[one.name][name] = summarise(one, found, judge_name(config))
                run.write_table(_place(one.name, name, "parquet"), tables[model])
        changed.append(changed_answers(one, tables[baseline], tables[source], config.seed, run))
    shown = [name for name in [*models, student] if not is_level_student(name)]
    results = tell(config, asked, scores, list(dict.fromkeys(shown)), baseline, student)
    for one in asked:
        for name, score in scores[one.name].items():
            told = {key: value for key, value in vars(score).items() if key not in ("units", "interval")}
            told["gain"] = _gain(scores[one.name][baseline], score)
            run.write_json(_place(one.name, name, "json"), told | {"interval": _interval(score.interval)})
    run.write_json(RESULTS, results)
    run.write_table(CHANGED, pa.concat_tables(changed))
    run.delete(FOLDER)
    mean = results["mean"].get(student)
    words = f"; {len(asked)} benchmarks"
    if mean and mean["gain"]:
        words += f": student {Interval(**mean['gain']).in_points} points in the mean"
    return words


def tell(
    config: RunConfig,
    asked: Sequence[Prepared],
    scores: Mapping[str, Mapping[str, Score]],
    models: Sequence[str],
    baseline: str,
    student: str,
) -> dict[str, Any]:
    """What results.json holds.

    Args:
        config: the recipe.
        asked: benchmarks, in order.
        scores: by benchmark and model.
        models: those that are shown.
        baseline: the model that gains are over.
        student: the one that was trained, of which the paper prints what it made of the same model.
    """
    paths = {baseline: config.student.path, **{t.alias: t.path for t in config.curriculum}}
    benchmarks = []
    for one in asked:
        mine, facts = scores[one.name], one.benchmark
        paper = {name: printed(facts, paths[name]) for name in models if name in paths}
        paper[student] = printed(facts, config.student.path, trained=True)
        benchmarks.append(
            {
                "name": one.name,
                "title": facts.title,
                "column": facts.column,
                "md5": one.md5,
                "prompt": one.wanted.style,
                "max_tokens": one.wanted.max_tokens,
                "rows": len(one.questions),
                "quarantined": len(one.quarantined),
                "remarks": list(one.remarks),
                "unverified": list(facts.unverified),
                "scores": {name: _told(mine[baseline], mine[name]) for name in models},
                "paper": {name: value for name, value in paper.items() if value is not None},
            }
        )
    whole = [one.name for one in asked if all(scores[one.name][name].value is not None for name in models)]
    return {
        "judge": judge_name(config),
        "decoding": {"temperature": config.evaluate.temperature, **_sampled(config)},
        "models": list(models),
        "benchmarks": benchmarks,
        "mean_of": whole,
        "mean": {name: _means(whole, scores, name, baseline) for name in models} if whole else {},
        "paper_unknown": UNKNOWN,
    }


def _told(baseline: Score, score: Score) -> dict[str, Any]:
    """Of a score what is shown in tables."""
    names = ("value", "rows", "answered", "failed", "quarantined", "judged", "unresolved", "truncated")
    told = {name: getattr(score, name) for name in names}
    return told | {
        "interval": _interval(score.interval),
        "gain": _gain(baseline, score),
        "remarks": list(score.remarks),
    }


def _means(
    whole: Sequence[str], scores: Mapping[str, Mapping[str, Score]], model: str, baseline: str
) -> dict[str, Any]:
    mine, theirs = ([scores[name][who] for name in whole] for who in (model, baseline))
    paired = all(_common(before, after) for before, after in zip(theirs, mine, strict=True))
    change = average_gain(list(zip(theirs, mine, strict=True))) if paired else None
    return {"interval": _interval(average(mine)), "gain": _interval(change)}


def _gain(baseline: Score, score: Score) -> dict[str, Any] | None:
    return _interval(gain(baseline, score)) if _common(baseline, score) else None


def _common(baseline: Score, score: Score) -> bool:
    """Whether both have a value, of some questions in common."""
    return not {unit.key for unit in baseline.units}.isdisjoint(unit.key for unit in score.units)


def _interval(found: Any) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _sampled(config: RunConfig) -> dict[str, Any]:
    decoding = config.evaluate
    return {"top_p": decoding.top_p, "top_k": decoding.top_k} if decoding.temperature else {}


def _outcomes(one: Prepared, model: str, shards: Sequence[Shard], run: Storage) -> tuple[list[Outcome], pa.Table]:
    """What became of every row: by the rules, by the judge where it was asked; and the table for people."""
    found = {index: Outcome(index, "quarantined", None, 0.0, False, False) for index in one.quarantined}
    texts: dict[str, str] = {}
    judged = set(run.names(f"{PARTS}/{author(model, one.name)}@judged", ".parquet"))
    for shard in shards:
        rows = answered_rows(run, one.name, shard)
        texts |= {row["sample_id"]: row["text"] for row in rows}
        found |= {outcome.index: outcome for outcome in outcomes_of(one.name, rows, None)}
        name = judged_shard(shard).file(PARTS)
        if name in judged:
            found |= {outcome.index: outcome for outcome in from_table(run.read_table(name))}
    held = [
        found.get(question.index, Outcome(question.index, "failed", None, None, False, False))
        for question in one.questions
    ]
    words = pa.array([texts.get(outcome.index) for outcome in held], pa.string())
    clusters = pa.array([question.cluster for question in one.questions], pa.string())
    return held, as_table(held).append_column("text", words).append_column("cluster", clusters)


def _place(benchmark: str, model: str, suffix: str) -> str:
    return f"evaluation/benchmarks/{benchmark}/{model}.{suffix}"
