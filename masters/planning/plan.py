"""A plan: what each stage costs, what a worker's memory holds, what lies on disks, and what of it does not fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from masters.config.problems import Problem
from masters.planning import throughputs as pace
from masters.planning.calibration import NOTHING, Calibration
from masters.planning.disk import Disk, disk_of, disk_problems
from masters.planning.estimate import estimate
from masters.planning.fitting import engine_problems, gang_memory, gang_problems
from masters.planning.memory import TrainMemory
from masters.planning.products import by_selector
from masters.planning.workload import Cost, Workload


@dataclass(frozen=True)
class StageCost:
    """A stage and its pools.

    Attributes:
        seconds: of wall time. Pools that have room beside each other run at the same time.
        price: dollars; None where no group of it has one.
    """

    stage: str
    pools: Sequence[Cost]
    seconds: float
    price: float | None

    @property
    def gpu_hours(self) -> float:
        """Of all pools."""
        return sum(cost.gpu_hours for cost in self.pools)


@dataclass(frozen=True)
class Plan:
    """All of it.

    Attributes:
        paper: the same recipe the paper's way: every level for every question, a row of its own for each response.
    """

    load: Workload
    stages: Sequence[StageCost]
    memory: TrainMemory
    disk: Disk
    problems: Sequence[Problem]
    paper: "Plan | None" = None

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Of all stages."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def price(self) -> float | None:
        """Dollars of the groups that have a price; None where none has."""
        known = [stage.price for stage in self.stages if stage.price is not None]
        return sum(known) if known else None


def make_plan(
    load: Workload,
    *,
    calibration: Calibration = NOTHING,
    prices: Mapping[str, float] | None = None,
    volumes: Mapping[str, float] | None = None,
) -> Plan:
    """The plan of a run, and beside it that of the paper's way.

    Args:
        load: recipe, sizes, lengths and groups.
        calibration: what an earlier run measured.
        prices: dollars of a pod's node in an hour, by worker group.
        volumes: bytes of volumes by their field in the values file.
    """
    generate = load.config.generate.model_copy(update={"coverage": "all"})
    theirs = replace(load, config=load.config.model_copy(update={"generate": generate}), packed=False)
    paper = _plan(theirs, calibration, prices or {}, volumes or {}, copies=True)
    return replace(_plan(load, calibration, prices or {}, volumes or {}, copies=False), paper=paper)


def fit_problems(load: Workload, volumes: Mapping[str, float]) -> Sequence[Problem]:
    """What does not fit, by the rules of a plan; nothing else of it."""
    return _plan(load, NOTHING, {}, volumes, copies=False).problems


def _plan(
    load: Workload,
    calibration: Calibration,
    prices: Mapping[str, float],
    volumes: Mapping[str, float],
    *,
    copies: bool,
) -> Plan:
    costs = [calibration.applied(cost) for cost in estimate(load)]
    stages = [_stage(name, list(pools), prices) for name, pools in groupby(costs, lambda cost: cost.stage)]
    gang = next(cost for cost in costs if cost.stage == "train")
    place, several = gang.place, load.sure and len(gang.place.fitting) > 1
    workers = (
        load.config.resources.train.workers
    )  # in which of several groups is not sure: as few on a node, or many, as is best
    memory = gang_memory(load, workers if several else place.per_pod)
    disk = disk_of(load, workers if several else place.nodes, copies=copies)
    problems = [
        *gang_problems(load, place, memory),
        *engine_problems(load, costs),
        *disk_problems(load.config, disk, volumes, place.fitting if load.sure else (place.group,)),
    ]
    return Plan(load, stages, memory, disk, problems)


def _stage(name: str, pools: list[Cost], prices: Mapping[str, float]) -> StageCost:
    known = [cost.node_hours * prices[cost.place.group] for cost in pools if cost.place.group in prices]
    known += [dollars for cost in pools if (dollars := cost.details.get("dollars"))]
    return StageCost(name, pools, wall_seconds(pools), sum(known) if known else None)


def wall_seconds(pools: Sequence[Cost]) -> float:
    """Of pools that begin together. Where a group has no room for all of them, they follow each other.

    On CPUs pools of one stage share their engines' start: importing vLLM takes longer than loading a small model.
    """
    by_group: dict[str, list[Cost]] = {}
    for cost in pools:
        by_group.setdefault(cost.place.group, []).append(cost)
    return max(_in_group(members) for members in by_group.values())


def _in_group(pools: Sequence[Cost]) -> float:
    longest = max(cost.seconds for cost in pools)
    share = sum(cost.place.actors / cost.place.room for cost in pools)
    if share <= 1:
        return longest
    if all(not cost.place.gpus for cost in pools):
        return max(cost.start for cost in pools) + sum(cost.work for cost in pools)
    return max(longest, sum(cost.seconds * cost.place.actors / cost.place.room for cost in pools))


def notes(plan: Plan) -> Iterator[str]:
    """What a reader must know of where the numbers are from."""
    load = plan.load
    kinds = {cost.place.kind.name: cost.place.kind for stage in plan.stages for cost in stage.pools if cost.place.gpus}
    vague = [group for group in load.groups or () if group.gpus and not by_selector(group)]
    named = {group.labels.get("ray.io/accelerator-type", "") for group in vague}
    yield f"lengths  {load.lengths.source}"
    if load.benchmarks:
        rows = sum(one.rows for one in load.benchmarks)
        yield (
            f"evaluate {rows:,} rows of {len(load.benchmarks)} benchmarks for every model, prompts as long as the recipe's "
            "own; what a judge reads of the answers is not counted"
        )
    if load.config.score.match_first:
        yield "score    all answers are counted; match_first spares the judge those that match, which only a run tells"
    for kind in kinds.values():
        yield f"pace     {kind.name}: {kind.train_share:g} of {kind.tflops:g} TFLOP/s in training, {kind.source}"
    if "A100" in named:
        yield 'pace     "A100" is taken for 80 GB; name A100-40G where nodes have 40 (a2-highgpu, p4d, ND96asr_v4)'
    unknown = sorted(name for name in named if name and pace.accelerator(name) is None)
    if unknown or (load.groups is None and kinds):
        what = f"{', '.join(unknown)} not in the table" if unknown else "no values file"
        yield f"pace     {what}: {pace.DEFAULT} taken"
