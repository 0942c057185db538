"""The worker groups of the Helm chart, from its values: what `masters check --values` proves a recipe against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from masters.config.problems import Problem

NODE_GROUP, MARKET_TYPE, ACCELERATOR = "ray.io/node-group", "ray.io/market-type", "ray.io/accelerator-type"
CHART = Path(__file__).parents[2] / "k8s" / "chart"
"""Of a checkout; an installed package has none."""

_NUMBERS = {"minReplicas": 0, "maxReplicas": 1, "cpus": 1, "memoryGi": 0, "shmGi": 0, "gpusPerPod": 0}
_WHOLE = {"minReplicas", "maxReplicas", "gpusPerPod"}


@dataclass(frozen=True)
class WorkerGroup:
    """Pods of one kind, from 0 to `max_replicas`; Ray's node labels are the group's."""

    name: str
    enabled: bool
    max_replicas: int
    cpus: float
    memory_gib: float
    shm_gib: float
    gpus: int
    labels: Mapping[str, str]

    @property
    def spot(self) -> bool:
        """Whether its nodes may be taken away at any time."""
        return self.labels[MARKET_TYPE] == "spot"

    @property
    def free_memory_gib(self) -> float:
        """What is left for tasks beside /dev/shm, where Ray keeps objects and which counts in a pod's memory limit."""
        return self.memory_gib - self.shm_gib

    def field(self, name: str) -> str:
        """The path of one of its values."""
        return f"workerGroups.{self.name}.{name}"


def merge_values(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges: maps key by key, anything else replaced, null takes a key away."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge_values(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def read_values(*files: str | Path) -> dict[str, Any]:
    """Values files over the chart's own, the last one wins; the chart's are left out where this is no checkout.

    Raises:
        ValueError: naming the file that cannot be read.
    """
    own = CHART / "values.yaml"
    return reduce(merge_values, (_read(Path(file)) for file in ([own] if own.is_file() else []) + list(files)), {})


def worker_groups(values: Mapping[str, Any]) -> tuple[list[WorkerGroup], list[Problem]]:
    """The groups, disabled ones included, and what is wrong with their values. A group with a problem is left out."""
    found = values.get("workerGroups")
    if not isinstance(found, Mapping) or not found:
        return [], [
            Problem(
                "workerGroups", None, "is missing from the values", "Name a values file of Masters' chart (k8s/chart)."
            )
        ]
    groups, problems = [], []
    for name, group in found.items():
        wrong = list(_group_problems(str(name), group))
        problems.extend(wrong)
        if not wrong:
            groups.append(_group(str(name), group))
    return groups, problems


def _read(file: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}. Name a values file of Masters' chart.") from None
    except MarkedYAMLError as error:
        raise ValueError(f"{file}: is not YAML: {error.problem}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{file}: is not a mapping of values.")
    return values


def _group_problems(name: str, group: Any) -> Iterator[Problem]:
    where = f"workerGroups.{name}"
    if not isinstance(group, Mapping):
        yield Problem(where, group, "is not a mapping", f"Set {where}.maxReplicas, .cpus and .memoryGi.")
        return
    if group.get("enabled") is False:
        return
    sound = True
    for field, least in _NUMBERS.items():
        value = group.get(field, least)
        kinds = int if field in _WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
            sound = False
            kind = "a whole number" if field in _WHOLE else "a number"
            yield Problem(f"{where}.{field}", value, f"must be {kind}, not below 0", f"Use {least}, for example.")
    if not sound:
        return
    if group.get("minReplicas", 0) > group.get("maxReplicas", 1):
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 1)
        yield Problem(f"{where}.minReplicas", low, f"is above maxReplicas {high}", f"Use {high} at most.")
    if group.get("shmGi", 0) >= group.get("memoryGi", 0) > 0:
        memory = group["memoryGi"]
        yield Problem(f"{where}.shmGi", group["shmGi"], f"leaves nothing of memoryGi {memory}", "Raise memoryGi.")


def _group(name: str, group: Mapping[str, Any]) -> WorkerGroup:
    labels = {NODE_GROUP: name, MARKET_TYPE: "spot" if group.get("spot") else "on-demand"}
    if group.get("acceleratorType"):
        labels[ACCELERATOR] = str(group["acceleratorType"])
    return WorkerGroup(
        name=name,
        enabled=group.get("enabled", True) is not False,
        max_replicas=group.get("maxReplicas", 1),
        cpus=group.get("cpus", 1),
        memory_gib=group.get("memoryGi", 0),
        shm_gib=group.get("shmGi", 0),
        gpus=group.get("gpusPerPod", 0),
        labels=labels | {str(key): str(value) for key, value in (group.get("labels") or {}).items()},
    )
