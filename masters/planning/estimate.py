"""What each stage costs: rows, tokens, FLOPs, GPU-hours and wall time."""

import math
from collections.abc import Sequence
from dataclasses import replace

from masters.config.score import EndpointJudge, ModelJudge, RuleJudge, TeacherJudge
from masters.families.sizes import ModelSize
from masters.planning import throughputs as pace
from masters.planning.engines import Asked, engine_seconds, judged, loading
from masters.planning.gang import train_cost
from masters.planning.lengths import Lengths
from masters.planning.places import Place, find_place
from masters.planning.workload import Cost, Questions, Workload


def estimate(load: Workload) -> list[Cost]:
    """The costs of a run, by stage and pool, in the order of the stages."""
    return [
        _prepare(load),
        _mask(load),
        *_generate(load),
        *_score(load),
        train_cost(load),
        *_evaluate(load),
        _report(load),
    ]


def _prepare(load: Workload) -> Cost:
    task, lengths = load.config.resources.prepare, load.lengths
    place = find_place(task, 0, 1_000_000, load.groups)
    pixels = lengths.image_tokens * load.sizes.student.tower.token_pixels
    each = pace.PREPARE_ROW + pace.DECODE_PIXEL * pixels
    return Cost("prepare", "", place, lengths.rows, start=pace.RAY_START, work=lengths.rows * each / place.actors)


def _mask(load: Workload) -> Cost:
    task, weights = load.config.resources.mask, [2 * size.parameters for size in load.sizes.teachers]
    files = sum(math.ceil(size / 5e9) for size in weights)
    place = find_place(task, 0, files, load.groups)
    seconds = sum(weights) / place.actors / pace.HISTOGRAM + sum(weights) / place.nodes / pace.DISK
    return Cost("mask", "", place, load.levels, start=pace.TASK_START, work=seconds)


def _generate(load: Workload) -> list[Cost]:
    config, lengths, costs = load.config, load.lengths, []
    mix, resources = config.generate.mix, config.resources
    every = config.generate.coverage == "all"
    for entry, size in zip(config.curriculum, load.sizes.teachers, strict=True):
        if mix.teacher:
            levels = len(entry.ratio_keys)
            questions = lengths.train * (levels if every else 1)
            asked = Asked.of(lengths, questions, mix.teacher, config.generate.shard_size)
            place = find_place(resources.generate, entry.gpus_per_engine, resources.generate.max_actors, load.groups)
            costs.append(_engines("generate", entry.alias, place, asked, size, load, switches=levels))
    if mix.student:
        pool = resources.student_pool
        asked = Asked.of(lengths, lengths.train, mix.student, config.generate.shard_size)
        place = find_place(pool, config.student.gpus_per_engine, pool.max_actors, load.groups)
        costs.append(_engines("generate", "student", place, asked, load.sizes.student, load))
    return costs


def _engines(
    stage: str, pool: str, place: Place, asked: Asked, size: ModelSize, load: Workload, switches: int = 0
) -> Cost:
    config = load.config
    seconds, flops = engine_seconds(size, place, asked, config.resources.engine, config.engine.max_model_len)
    work = seconds / place.actors + switches * loading(size, place)
    start = pace.ENGINE_START[place.gpus > 0] + loading(size, place)
    return Cost(stage, pool, place, asked.rows, asked.tokens, flops, start, work)


def _score(load: Workload) -> list[Cost]:
    config, lengths = load.config, load.lengths
    mix, resources = config.generate.mix, config.resources.score
    every = config.generate.coverage == "all"
    by_teacher = [lengths.train * mix.teacher * (len(entry.ratio_keys) if every else 1) for entry in config.curriculum]
    by_student, judge = lengths.train * mix.student, config.score.judge
    if isinstance(judge, RuleJudge):
        rows = sum(by_teacher) + by_student + lengths.train * mix.label
        place = find_place(resources, 0, resources.max_actors, load.groups)
        work = rows / pace.RULE_VERDICTS / place.actors
        return [Cost("score", "rule", place, rows, start=pace.ACTOR_START, work=work)]
    shard, twice = config.generate.shard_size, judge.second_prompt == "always"
    if isinstance(judge, TeacherJudge):
        judges = [
            (entry.alias, entry.gpus_per_engine, size, answers)
            for entry, size, answers in zip(config.curriculum, load.sizes.teachers, by_teacher, strict=True)
        ]
        alias, gpus, size, answers = judges[-1]
        judges[-1] = (alias, gpus, size, answers + by_student)
    elif isinstance(judge, ModelJudge):
        assert load.sizes.judge is not None
        judges = [("judge", judge.gpus_per_engine, load.sizes.judge, sum(by_teacher) + by_student)]
    else:
        place = find_place(resources, 0, resources.max_actors, load.groups)
        return [
            _endpoint(judge, place, judged(sum(by_teacher) + by_student, lengths.response_tokens, shard, twice=twice))
        ]
    costs = []
    for pool, gpus, size, answers in judges:
        place = find_place(resources, gpus, resources.max_actors, load.groups)
        asked = judged(answers, lengths.response_tokens, shard, twice=twice)
        costs.append(_engines("score", pool, place, asked, size, load))
    return costs


def _endpoint(judge: EndpointJudge, place: Place, asked: Asked) -> Cost:
    """As fast as its limits allow."""
    requests = asked.rows * (2 if judge.second_prompt == "always" else 1)
    seconds = [requests * pace.ENDPOINT_SECONDS / judge.max_concurrency]
    if judge.requests_per_minute:
        seconds.append(60 * requests / judge.requests_per_minute)
    if judge.tokens_per_minute:
        seconds.append(60 * asked.tokens / judge.tokens_per_minute)
    millions = asked.questions / 1e6
    dollars = millions * (asked.prompt * judge.prompt_price + asked.answer * judge.answer_price)
    details = {"requests": float(requests), "dollars": dollars}
    return Cost(
        "score", "endpoint", place, asked.rows, asked.tokens, start=pace.ACTOR_START, work=max(seconds), details=details
    )


def _evaluate(load: Workload) -> list[Cost]:
    config, lengths, resources = load.config, load.lengths, load.config.resources.evaluate
    questions = lengths.samples.get(config.evaluate.split, 0)
    students = load.levels if config.train.students_by_level else 1
    chosen = students * lengths.samples.get("validation", 0) if config.train.keep == "best" else 0
    asked: list[tuple[str, ModelSize, float, int]] = [
        ("student", load.sizes.student, config.student.gpus_per_engine, questions * (1 + students) + chosen)
    ]
    if config.evaluate.teachers:
        asked += [
            (entry.alias, size, entry.gpus_per_engine, questions)
            for entry, size in zip(config.curriculum, load.sizes.teachers, strict=True)
        ]
    costs, shard = [], config.evaluate.shard_size
    for pool, size, gpus, count in asked:
        place = find_place(resources, gpus, resources.max_actors, load.groups)
        models = 1 + students if pool == "student" else 1
        parts = [
            Asked.of(lengths, count, 1, shard),
            *(replace(_of_benchmark(one, lengths, shard), questions=one.rows * models) for one in load.benchmarks),
        ]
        costs.append(_together([_engines("evaluate", pool, place, part, size, load) for part in parts]))
    return costs


def _of_benchmark(one: Questions, lengths: Lengths, shard: int) -> Asked:
    """Questions as long as the recipe's own, and answers, where they may be."""
    asked = Asked.of(lengths, one.rows, 1, shard)
    return replace(asked, answer=min(asked.answer, one.longest))


def _together(costs: Sequence[Cost]) -> Cost:
    """Of one pool, one after the other: its engines start once."""
    total = {name: sum(getattr(cost, name) for cost in costs) for name in ("rows", "tokens", "flops", "work")}
    return replace(costs[0], **total)


def _report(load: Workload) -> Cost:
    place = find_place(load.config.resources.prepare, 0, 1, load.groups)
    return Cost("report", "", place, 1, start=pace.REPORT_START, work=load.lengths.train * pace.REPORT_ROW)
