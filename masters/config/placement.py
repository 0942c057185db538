"""Can every stage be placed on the worker groups of the Helm chart? Found out from two files, before anything is paid for.

The recipe's `resources` and the chart's `workerGroups` speak of the same things: Ray node labels, CPUs, GPUs and memory of a
pod, and how many pods a group may have. An actor, and an engine with all of its GPUs, lies in one pod.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masters.config.problems import Problem, RecipeError
from masters.config.resources import GangResources, PoolResources, TaskResources
from masters.config.run import RunConfig
from masters.config.score import ModelJudge, TeacherJudge
from masters.config.yaml_files import laid_over, read_yaml

CHART = Path(__file__).parents[2] / "k8s" / "chart"
"""Of a checkout; an installed package has none."""

NODE_GROUP = "ray.io/node-group"


@dataclass(frozen=True)
class Group:
    """A worker group.

    Attributes:
        memory_gib: what is left of a pod's limit beside /dev/shm.
        selector: labels of Kubernetes that its nodes have.
        gpu_resource: what its GPUs are asked for as; a slice of one has a name of its own.
    """

    name: str
    labels: Mapping[str, str]
    cpus: float
    memory_gib: float
    gpus: int
    max_pods: int
    spot: bool
    selector: Mapping[str, str] = field(default_factory=dict)
    gpu_resource: str = "nvidia.com/gpu"

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether its nodes carry the labels; a value may be one, or Ray's `!other`, `in(a, b)`, `!in(a, b)`."""
        return all(_label_fits(self.labels.get(key), wanted) for key, wanted in labels.items())

    def per_pod(self, cpus: float, memory_gib: float, gpus: float) -> int:
        """How many actors of this size a pod holds."""
        sizes = ((self.cpus, cpus), (self.memory_gib, memory_gib), (self.gpus, gpus))
        return int(min(has / wants for has, wants in sizes if wants))


@dataclass(frozen=True)
class Demand:
    """Actors of one size that a stage wants, or the student in generate; `gpus_path` is the field that gives their GPUs."""

    stage: str
    resources: TaskResources
    gpus: float
    gpus_path: str
    counts: Mapping[str, int]


def read_values(paths: Sequence[Path]) -> dict[str, Any]:
    """Values files, laid over the chart's own values as Helm does it; the last one wins.

    Raises:
        RecipeError: where a file is not there, or not YAML.
    """
    own = CHART / "values.yaml"
    files = [own, *paths] if own.is_file() else list(paths)
    values: dict[str, Any] = functools.reduce(laid_over, map(_read, files), {})
    return values


def load_groups(paths: Sequence[Path]) -> tuple[Group, ...]:
    """The enabled groups of values files. Raises RecipeError, as `read_values` and `groups_of` do."""
    return groups_of(read_values(paths), ", ".join(map(str, paths)))


def groups_of(values: Mapping[str, Any], shown: str) -> tuple[Group, ...]:
    """The enabled groups of values; `shown` names these in errors. Raises RecipeError where a group lacks a number."""
    groups = _mapping(values, "workerGroups", "workerGroups", shown)
    sections = {name: _mapping(groups, name, f"workerGroups.{name}", shown) for name in groups}
    return tuple(_group(name, group, shown) for name, group in sections.items() if group.get("enabled"))


def check_placement(config: RunConfig, values: Sequence[Path], recipe: str = "recipe") -> tuple[Group, ...]:
    """The groups of values files, if every stage of the recipe fits on them; `recipe` names it in errors.

    Raises:
        RecipeError: with everything that cannot be placed.
    """
    groups = load_groups(values)
    problems = list(placement_problems(config, groups))
    if problems:
        raise RecipeError(recipe, problems)
    return groups


def placement_problems(config: RunConfig, groups: Sequence[Group], stage: str | None = None) -> Iterator[Problem]:
    """What cannot be placed, of one stage or of all: every problem names stage, group and number."""
    found = (
        problem
        for demand in _demands(config)
        if stage in (None, {"student": "generate"}.get(demand.stage, demand.stage))
        for problem in _demand_problems(demand, groups)
    )
    yield from dict.fromkeys(found)  # a pool of several models says once what none of them fits
    if stage not in (None, "train"):
        return
    gang, places = config.resources.train, [g for g in groups if g.has(config.resources.train.labels)]
    if places and all(group.spot for group in places):
        named = _named(places)
        yield Problem(
            "resources.train.labels",
            gang.labels,
            f"stage train: {named} is on spot nodes, and the gang of {gang.workers} loses all workers with one",
            "Name a group with spot: false.",
        )


def _demands(config: RunConfig) -> Iterator[Demand]:
    resources = config.resources
    for stage, task in (("prepare", resources.prepare), ("mask", resources.mask)):
        yield Demand(stage, task, 0, "", {f"resources.{stage}": 1})
    gang = resources.train
    yield Demand("train", gang, gang.gpus, "resources.train.gpus", {"resources.train.workers": gang.workers})
    student = {"student.gpus_per_engine": config.student.gpus_per_engine}
    teachers = {f"curriculum[{i}].gpus_per_engine": t.gpus_per_engine for i, t in enumerate(config.curriculum)}
    judge = config.score.judge
    judges: Mapping[str, float] = {"": 0}
    if isinstance(judge, TeacherJudge):
        judges = teachers
    elif isinstance(judge, ModelJudge):
        judges = {"score.judge.gpus_per_engine": judge.gpus_per_engine}
    engines: tuple[tuple[str, PoolResources, Mapping[str, float]], ...] = (
        ("generate", resources.generate, teachers if resources.student else teachers | student),
        ("student", resources.student_pool, student if resources.student else {}),
        ("score", resources.score, judges),
        ("evaluate", resources.evaluate, (teachers if config.evaluate.teachers else {}) | student),
    )
    for stage, pool, models in engines:
        counts = {f"resources.{stage}.{end}_actors": getattr(pool, f"{end}_actors") for end in ("min", "max")}
        for path, gpus in models.items():
            yield Demand(stage, pool, gpus, path, counts)


def _demand_problems(demand: Demand, groups: Sequence[Group]) -> Iterator[Problem]:
    """Labels first, then the size of one actor, then how many: the first that fails explains the rest."""
    task, stage = demand.resources, demand.stage
    places = [group for group in groups if group.has(task.labels)]
    if not places:
        there = "; ".join(f"{g.name}: {_shown(g.labels)}" for g in groups) or "none is enabled"
        rule = f"stage {stage}: no group carries these labels ({there})"
        yield Problem(f"resources.{stage}.labels", _shown(task.labels), rule, "Name labels of one group.")
        return
    size = (task.cpus, task.memory_gib, demand.gpus)
    fitting = [group for group in places if group.per_pod(*size) >= 1]
    if not fitting:
        yield from _too_small(demand, places)
        return
    room = sum(group.per_pod(*size) * group.max_pods for group in fitting)
    for path, count in demand.counts.items():
        if count > room:
            each = ", ".join(f"{g.name}: {g.max_pods} pods x {g.per_pod(*size)}" for g in fitting)
            held = f"{'workers' if isinstance(task, GangResources) else 'actors'} of {demand.gpus:g} GPUs"
            rule = f"stage {stage}: {_named(fitting)} holds at most {room} {held} ({each})"
            yield Problem(path, count, rule, f"Use {room}, or raise maxReplicas of the group.")
            return


def _too_small(demand: Demand, places: Sequence[Group]) -> Iterator[Problem]:
    """One actor is larger than every pod that it may lie in: the sizes that no such pod has, or has only without others."""
    task, stage = demand.resources, demand.stage
    wanted = (
        (demand.gpus_path, demand.gpus, "gpus", "GPUs", "gpusPerPod"),
        (f"resources.{stage}.cpus", task.cpus, "cpus", "CPUs", "cpus"),
        (f"resources.{stage}.memory_gib", task.memory_gib, "memory_gib", "GiB beside /dev/shm", "memoryGi"),
    )
    for path, wants, name, unit, key in wanted:
        lacking = [group for group in places if getattr(group, name) < wants]
        if lacking and (len(lacking) == len(places) or len(places) > 1):
            most = max(getattr(group, name) for group in lacking)
            rule = f"stage {stage}: {_named(lacking)} has {most:g} {unit} a pod"
            smaller = f"Use {most:g}" if most else f"Name another group in resources.{stage}.labels"
            remedy = f"{smaller}, or set workerGroups.{lacking[0].name}.{key}: {wants:g}."
            yield Problem(path, f"{wants:g}", rule, remedy)


def _group(name: str, values: Mapping[str, Any], shown: str) -> Group:
    where, spot = f"workerGroups.{name}", bool(values.get("spot", False))
    labels = {
        **_mapping(values, "labels", f"{where}.labels", shown),
        NODE_GROUP: values.get("nodeGroup") or name,
        "ray.io/market-type": "spot" if spot else "on-demand",
    }
    if values.get("acceleratorType"):
        labels["ray.io/accelerator-type"] = values["acceleratorType"]
    keys = ("memoryGi", "shmGi", "cpus", "maxReplicas")
    memory, shared, cpus, pods = (_number(values, key, where, shown) for key in keys)
    gpus = _number({"gpusPerPod": 0, **values}, "gpusPerPod", where, shown)
    selector = _mapping(values, "nodeSelector", f"{where}.nodeSelector", shown)
    resource = str(values.get("gpuResource") or Group.gpu_resource)
    return Group(name, labels, cpus, memory - shared, int(gpus), int(pods), spot, selector, resource)


def _mapping(values: Mapping[str, Any], key: str, where: str, shown: str) -> dict[str, Any]:
    value = values.get(key) or {}
    if not isinstance(value, dict):
        raise RecipeError(shown, [Problem(where, value, "is not a mapping", "`helm lint` says more.")])
    return value


def _number(values: Mapping[str, Any], key: str, where: str, shown: str) -> float:
    value = values.get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if value is None:
        problem = Problem(where, None, f"lacks a usable '{key}'", "`helm lint` says more.")
    else:
        problem = Problem(
            f"{where}.{key}", value, "is not a number", "Write it without quotes and units: 0.5, not 500m."
        )
    raise RecipeError(shown, [problem])


def _label_fits(value: str | None, wanted: str) -> bool:
    """Ray's label selector syntax: `a`, `!a`, `in(a, b)`, `!in(a, b)`; a missing label fits the negated ones."""
    negated, text = wanted.startswith("!"), wanted.removeprefix("!")
    listed = text.startswith("in(") and text.endswith(")")
    choices = [choice.strip() for choice in text[3:-1].split(",")] if listed else [text]
    return (value in choices) != negated


def _read(path: Path) -> dict[str, Any]:
    values = read_yaml(path, "Name a values file of k8s/chart.")
    if not isinstance(values, dict | None):
        raise RecipeError(str(path), [Problem("file", None, "is not a mapping", "Name a values file of k8s/chart.")])
    return values or {}


def _named(groups: Sequence[Group]) -> str:
    names = " or ".join(f'"{group.name}"' for group in groups)
    return f"group {names}"


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "{}"
