"""Where a stage runs: how many actors at once, on which accelerator, in how many pods."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from masters.config.placement import Group
from masters.config.resources import TaskResources
from masters.planning.products import accelerator_of
from masters.planning.throughputs import ACCELERATORS, CPU, DEFAULT, Accelerator

HERE = "here"
ANYWHERE = "any"


@dataclass(frozen=True)
class Place:
    """The actors of one pool.

    Attributes:
        group: name of the worker group; HERE for this machine, ANYWHERE for GPUs that no values file names.
        kind: its accelerator, or a core.
        actors: at once.
        gpus: of each.
        cpus: of each.
        per_pod: actors that a pod holds.
        room: actors of this size that the group holds.
        fitting: names of all groups that Ray may take, this one among them.
    """

    group: str
    kind: Accelerator
    actors: int
    gpus: float
    cpus: float
    per_pod: int
    room: float
    fitting: tuple[str, ...] = ()

    @property
    def pods(self) -> int:
        """That the actors fill."""
        return math.ceil(self.actors / self.per_pod)

    @property
    def nodes(self) -> int:
        """A pod is taken for a node."""
        return self.pods

    def __str__(self) -> str:
        if self.gpus:
            return f"{self.group}: {self.actors * self.gpus:g} {self.kind.name}"
        cores = self.actors * self.cpus
        return f"{self.group}: {cores:g} {'CPU' if cores == 1 else 'CPUs'}"


def find_place(task: TaskResources, gpus: float, wanted: int, groups: Sequence[Group] | None) -> Place:
    """Of `wanted` actors, or as many as there is room for.

    Args:
        task: sizes and labels of one.
        gpus: of one.
        groups: of the values files; None where there are none.
    """
    if groups is None:
        return _without_values(task, gpus, wanted)
    fitting = [g for g in groups if g.has(task.labels) and g.per_pod(task.cpus, task.memory_gib, gpus) >= 1]
    if not fitting:
        return _without_values(task, gpus, wanted)
    group = max(fitting, key=lambda g: g.max_pods)
    per_pod = group.per_pod(task.cpus, task.memory_gib, gpus)
    room = per_pod * group.max_pods
    kind = kind_of(group) if gpus else CPU
    names = tuple(one.name for one in fitting)
    return Place(group.name, kind, max(1, min(wanted, room)), gpus, task.cpus, per_pod, room, names)


def _without_values(task: TaskResources, gpus: float, wanted: int) -> Place:
    if gpus:
        per_pod = max(1, int(8 / gpus))
        return Place(ANYWHERE, ACCELERATORS[DEFAULT], wanted, gpus, task.cpus, per_pod, math.inf)
    room = max(1, int((os.cpu_count() or 1) / task.cpus))
    return Place(HERE, CPU, min(wanted, room), 0, task.cpus, room, room)


def kind_of(group: Group) -> Accelerator:
    """The accelerator of a group; DEFAULT where it names none, or one that is not in the table."""
    return accelerator_of(group) or ACCELERATORS[DEFAULT]
