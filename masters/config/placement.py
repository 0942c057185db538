"""Proof that a recipe fits the chart's worker groups, before anything is paid for.

A stage asks for actors, tasks or workers of one size; a pod of a group holds some of them, and a group has so many pods.
Stages run one after the other, so each has the cluster to itself. What the proof does not know: quota, spot capacity and
whether a pod finds a node.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from masters.config.models import ModelConfig
from masters.config.problems import Problem
from masters.config.resources import Labels, TaskResources
from masters.config.run import RunConfig
from masters.config.score import TeacherJudge
from masters.config.values import MARKET_TYPE, NODE_GROUP, WorkerGroup

_SELECTOR = re.compile(r"(?P<no>!?)(?:in\((?P<any>[^()]+)\)|(?P<one>[^()!]+))")


@dataclass(frozen=True)
class Demand:
    """What a stage asks for: `count` of one size at the same time.

    Attributes:
        stage: its name.
        who: what is placed, in the singular: `engine of big`.
        count: as many must run at once; `count_field` says which field says so.
        size: CPUs, memory and labels of one; at resources.<stage>.
        gpus: of one; `gpus_field` says which field says so.
    """

    stage: str
    who: str
    count: int
    count_field: str
    size: TaskResources
    gpus: int
    gpus_field: str


def demands(config: RunConfig) -> list[Demand]:
    """Everything that the stages ask for, in pipeline order."""
    wanted, mix, resources = [], config.generate.mix, config.resources
    for stage, size in (("prepare", resources.prepare), ("mask", resources.mask)):
        wanted.append(Demand(stage, "task", 1, f"resources.{stage}", size, 0, ""))
    teachers = {f"curriculum[{index}]": teacher for index, teacher in enumerate(config.curriculum)}
    wanted += _engines("generate", config, (teachers if mix.teacher else {}), student=mix.student > 0)
    if isinstance(config.score.judge, TeacherJudge):
        wanted += _engines("score", config, teachers, student=False)
    else:
        wanted.append(_pool("score", config, "judge", 0, ""))
    train = resources.train
    wanted.append(
        Demand("train", "worker", train.workers, "resources.train.workers", train, train.gpus, "resources.train.gpus")
    )
    return wanted + _engines("evaluate", config, (teachers if config.evaluate.teachers else {}), student=True)


def placement_problems(config: RunConfig, groups: Sequence[WorkerGroup]) -> list[Problem]:
    """Every reason why a stage could wait for ever; each names stage, group and number. Empty: all of it fits."""
    problems: list[Problem] = []
    for demand in demands(config):
        problems.extend(_problems(demand, groups))
    return list(dict.fromkeys(problems))  # models of one size have the same trouble


def placements(config: RunConfig, groups: Sequence[WorkerGroup]) -> Iterator[str]:
    """For a recipe that fits: where each stage goes, a line each."""
    for demand in demands(config):
        places = [f"{group.name} ({_each(demand, group)} a pod)" for group in _usable(demand, groups)]
        count = f"{demand.count} {demand.who}{'s' if demand.count > 1 else ''}"
        yield f"{demand.stage:<9} {count}{_gpus(demand)} on {', '.join(places)}"


def selects(labels: Labels, group: Mapping[str, str]) -> bool:
    """Whether Ray's label selector accepts a node: `a`, `!a`, `in(a, b)`, `!in(a, b)`; a missing label is no value."""
    for key, selector in labels.items():
        match = _SELECTOR.fullmatch(selector.strip())
        if match is None:
            return False
        values = {value.strip() for value in match["any"].split(",")} if match["any"] else {match["one"]}
        if (group.get(key) in values) == bool(match["no"]):
            return False
    return True


def _engines(stage: str, config: RunConfig, teachers: Mapping[str, ModelConfig], *, student: bool) -> list[Demand]:
    """Engines of the teachers and of the student; of several that need as many GPUs, the first stands for all."""
    found: dict[int, Demand] = {}
    models = {**teachers, **({"student": config.student} if student else {})}
    for where, model in models.items():
        alias = getattr(model, "alias", "the student")
        field = f"{where}.gpus_per_engine"
        found.setdefault(
            model.gpus_per_engine, _pool(stage, config, f"engine of {alias}", model.gpus_per_engine, field)
        )
    return list(found.values())


def _pool(stage: str, config: RunConfig, who: str, gpus: int, field: str) -> Demand:
    pool = getattr(config.resources, stage)
    return Demand(stage, who, pool.min_actors, f"resources.{stage}.min_actors", pool, gpus, field)


def _problems(demand: Demand, groups: Sequence[WorkerGroup]) -> Iterator[Problem]:
    matching = [group for group in groups if selects(demand.size.labels, group.labels)]
    enabled = [group for group in matching if group.enabled and group.max_replicas]
    if not enabled:
        yield _no_group(demand, groups, matching)
        return
    fitting = [group for group in enabled if _each(demand, group)]
    if not fitting:
        yield from _too_big(demand, min(enabled, key=lambda group: _shortfalls(demand, group)))
        return
    if demand.stage == "train":
        trouble = _on_spot(demand, fitting)
        if trouble:
            yield trouble
            return
    usable = _usable(demand, groups)
    room = sum(_each(demand, group) * group.max_replicas for group in usable)
    if room < demand.count:
        yield _too_many(demand, usable, room)


def _usable(demand: Demand, groups: Sequence[WorkerGroup]) -> list[WorkerGroup]:
    """Groups that can hold one, and for train not on spot unless the recipe's labels say so."""
    return [
        group
        for group in groups
        if group.enabled
        and selects(demand.size.labels, group.labels)
        and _each(demand, group) * group.max_replicas
        and not (demand.stage == "train" and group.spot and MARKET_TYPE not in demand.size.labels)
    ]


def _each(demand: Demand, group: WorkerGroup) -> int:
    """How many a pod of the group holds."""
    sizes = ((demand.gpus, group.gpus), (demand.size.cpus, group.cpus), (demand.size.memory_gib, group.free_memory_gib))
    return min(math.floor(there / one + 1e-9) for one, there in sizes if one)


def _shortfalls(demand: Demand, group: WorkerGroup) -> tuple[int, str]:
    return len(list(_too_big(demand, group))), group.name


def _no_group(demand: Demand, groups: Sequence[WorkerGroup], matching: Sequence[WorkerGroup]) -> Problem:
    where = f"resources.{demand.stage}.labels"
    wanted = ", ".join(f"{key}: {value}" for key, value in demand.size.labels.items()) or "any group"
    if matching:
        off = matching[0]
        if not off.enabled:
            return Problem(
                where,
                wanted,
                f'stage {demand.stage} needs {demand.count} {demand.who} there, and group "{off.name}" is not enabled',
                f"Set {off.field('enabled')}: true.",
            )
        return Problem(
            where,
            wanted,
            f'stage {demand.stage} needs {demand.count} {demand.who} there, and group "{off.name}" has 0 pods at most',
            f"Set {off.field('maxReplicas')}: {_pods(demand, off) or 1}.",
        )
    there = [group for group in groups if group.enabled]
    listed = "; ".join(f'"{g.name}" has {", ".join(f"{k}: {v}" for k, v in g.labels.items())}' for g in there)
    names = " or ".join(f"{NODE_GROUP}: {group.name}" for group in there)
    return Problem(
        where,
        wanted,
        f"stage {demand.stage} finds no group with these labels among {len(there)}: {listed or 'none is enabled'}",
        f"Use {names}." if there else "Enable a group in workerGroups.",
    )


def _too_big(demand: Demand, group: WorkerGroup) -> Iterator[Problem]:
    """One is larger than a whole pod: the group closest to fitting, and every number that is short."""
    size, stage = demand.size, f"stage {demand.stage}"
    if demand.gpus > group.gpus:
        yield Problem(
            demand.gpus_field,
            demand.gpus,
            f'{stage}: group "{group.name}" has {group.gpus} GPUs a pod, and one {demand.who} does not span pods',
            (f"Use {group.gpus}, or set" if group.gpus else "Set") + f" {group.field('gpusPerPod')}: {demand.gpus}.",
        )
    if size.cpus > group.cpus:
        yield Problem(
            f"resources.{demand.stage}.cpus",
            f"{size.cpus:g}",
            f'{stage}: group "{group.name}" has {group.cpus:g} CPUs a pod',
            f"Use {group.cpus:g}, or set {group.field('cpus')}: {math.ceil(size.cpus)}.",
        )
    if size.memory_gib > group.free_memory_gib:
        yield Problem(
            f"resources.{demand.stage}.memory_gib",
            f"{size.memory_gib:g}",
            f'{stage}: group "{group.name}" has {group.free_memory_gib:g} GiB a pod '
            f"(memoryGi {group.memory_gib:g} less shmGi {group.shm_gib:g})",
            f"Use {group.free_memory_gib:g}, or set {group.field('memoryGi')}: "
            f"{math.ceil(size.memory_gib + group.shm_gib)}.",
        )


def _on_spot(demand: Demand, fitting: Sequence[WorkerGroup]) -> Problem | None:
    """A gang on GPUs must not be able to land on spot nodes unless the recipe says so; one on CPU may, if it need not."""
    spot = [group for group in fitting if group.spot]
    if MARKET_TYPE in demand.size.labels or not spot or (not demand.gpus and len(spot) < len(fitting)):
        return None
    return Problem(
        "resources.train.labels",
        ", ".join(f"{key}: {value}" for key, value in demand.size.labels.items()) or "none",
        f'stage train: its {demand.count} workers may land on group "{spot[0].name}", whose nodes are spot: '
        "one that is taken away stops the whole gang",
        f"Use {NODE_GROUP} of an on-demand group, or add {MARKET_TYPE}: on-demand (spot, if that is meant).",
    )


def _too_many(demand: Demand, usable: Sequence[WorkerGroup], room: int) -> Problem:
    """They fit one by one, but not as many at once."""
    first = max(usable, key=lambda group: _each(demand, group) * group.max_replicas)
    sums = " + ".join(f'group "{g.name}" holds {_each(demand, g)} a pod x {g.max_replicas} pods' for g in usable)
    at_once = "all at once or not at all" if demand.stage == "train" else "before work starts"
    return Problem(
        demand.count_field,
        demand.count,
        f"stage {demand.stage}: {sums} = {room} at most, and {demand.count} must run {at_once}{_narrow(demand, first)}",
        f"Use {room}, or set {first.field('maxReplicas')}: {_pods(demand, first, room)}.",
    )


def _pods(demand: Demand, group: WorkerGroup, room: int = 0) -> int:
    """Pods of the group that hold everything; `room` is what all groups hold now."""
    each = _each(demand, group)
    return group.max_replicas + math.ceil((demand.count - room) / each) if each else 0


def _narrow(demand: Demand, group: WorkerGroup) -> str:
    """What leaves GPUs of a pod unused, if anything does."""
    each = _each(demand, group)
    idle = group.gpus - each * demand.gpus
    if not demand.gpus or idle < demand.gpus:
        return ""
    short = "CPUs" if math.floor(group.cpus / demand.size.cpus + 1e-9) == each else "memory"
    return f" (for want of {short}, {idle} of {group.gpus} GPUs a pod stay idle)"


def _gpus(demand: Demand) -> str:
    return f" ({demand.gpus} GPU{'s' if demand.gpus > 1 else ''} each)" if demand.gpus else ""
