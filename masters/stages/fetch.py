"""Models of the hub, brought to the nodes before a stage asks for GPUs there: once per node, with progress.

Nodes that join later fetch for themselves when their first actor starts (masters/models/fetch.py): this only comes earlier.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from masters.config.placement import Group
from masters.config.resources import TaskResources
from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.reporting.progress import Screen, Tracker

_MEASURE_SECONDS = 1.0
_RETRIES = 3

Tell = Callable[[tuple[str, int, int]], None]


@dataclass(frozen=True)
class Need:
    """A model whose weights a stage reads, and the resources of those who read it, which say on which nodes."""

    path: str
    resources: TaskResources


def fetch_models(stage: str, needs: Sequence[Need], config: RunConfig, screen: Screen) -> None:
    """Bring models of the hub to the nodes that are there now and may need them; folders stay where they are.

    Where the recipe has a mirror, one node fills it first. A node that goes away meanwhile is none of ours.

    Raises:
        ValueError: where the hub does not give a model.
    """
    needs = [need for need in needs if not os.path.isdir(need.path)]
    if not needs:
        return
    from masters.stages.cluster import connect

    connect()
    _fill_mirror(stage, needs, config, screen)
    began, missing = time.monotonic(), _missing(needs, config.hub_token_env)
    if not missing:
        return
    with _told(screen, stage, f"MB of models for {len(missing)} nodes") as tell:
        sizes = _on_nodes(_fetch_here, missing, config.hub_token_env, config.hub_mirror, tell)
    for node, error in ((node, size) for node, size in sizes.items() if isinstance(size, Exception)):
        screen.line(stage, f"node {node[:8]} went away while it fetched models ({type(error).__name__})")
    fetched = sum(size for size in sizes.values() if not isinstance(size, Exception))
    models = len({path for paths in missing.values() for path in paths})
    words = f"{models} models fetched by {len(missing)} nodes, once each: {fetched / 1e6:,.0f} MB"
    screen.line(stage, words, time.monotonic() - began)


def _fill_mirror(stage: str, needs: Sequence[Need], config: RunConfig, screen: Screen) -> None:
    """On a node of the group that reads the model; while none is there Ray's autoscaler brings one."""
    if config.hub_mirror is None:
        return
    import ray

    from masters.models.fetch import commit_of, mirrored
    from masters.models.folder import from_hub
    from masters.stages.cluster import remote_options

    store = Storage(config.hub_mirror)
    for path, resources in {need.path: need.resources for need in needs}.items():
        with from_hub(path, config.hub_token_env) as (name, revision, token):
            commit = commit_of(name, revision, token)
        if mirrored(store, name, commit):
            continue
        began = time.monotonic()
        fill = ray.remote(max_retries=_RETRIES, **remote_options(resources))(_fill_here)
        with _told(screen, stage, f"MB of {name}, for the mirror") as tell:
            written: int = ray.get(fill.remote(path, config.hub_token_env, config.hub_mirror, tell))
        screen.line(stage, f"{name} is in the mirror: {written / 1e6:,.0f} MB written", time.monotonic() - began)


def _missing(needs: Sequence[Need], token_env: str) -> dict[str, tuple[str, ...]]:
    """Models that each living node may be asked for and has not, by the node's id."""
    import ray

    paths: dict[str, dict[str, None]] = defaultdict(dict)
    for node in ray.nodes():
        if node["Alive"]:
            offer, cpus = Group("", node["Labels"], 0, 0, 0, 0, False), node["Resources"].get("CPU", 0)
            for need in needs:
                if offer.has(need.resources.labels) and cpus >= need.resources.cpus:
                    paths[node["NodeID"]][need.path] = None
    found = _on_nodes(_missing_here, {node: tuple(wanted) for node, wanted in paths.items()}, token_env)
    return {node: wanted for node, wanted in found.items() if wanted and not isinstance(wanted, Exception)}


def _on_nodes(task: Callable[..., Any], paths: dict[str, tuple[str, ...]], *arguments: object) -> dict[str, Any]:
    """What the task says on each node; an exception of Ray's where the node went away. Takes no CPU: actors may hold all."""
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0, max_retries=_RETRIES)(task)
    running = {
        node: remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            wanted, *arguments
        )
        for node, wanted in paths.items()
    }
    said: dict[str, Any] = {}
    for node, result in running.items():
        try:
            said[node] = ray.get(result)
        except RayTaskError:
            raise
        except RayError as error:
            said[node] = error
    return said


def _missing_here(paths: Sequence[str], token_env: str) -> tuple[str, ...]:
    from masters.models import fetch
    from masters.models.folder import from_hub

    missing = []
    for path in paths:
        with from_hub(path, token_env) as (name, revision, token):
            if fetch.cached(name, fetch.commit_of(name, revision, token)) is None:
                missing.append(path)
    return tuple(missing)


def _fetch_here(paths: Sequence[str], token_env: str, mirror: str | None, tell: Tell) -> int:
    from masters.models.folder import resolve

    fetched = 0
    for path in paths:
        with _measured(path, token_env, tell) as measure:
            resolve(path, token_env, mirror=mirror)
        fetched += measure()[1]
    return fetched


def _fill_here(path: str, token_env: str, mirror: str, tell: Tell) -> int:
    from masters.models import fetch
    from masters.models.folder import from_hub

    with from_hub(path, token_env) as (name, revision, token), _measured(path, token_env, tell):
        return fetch.fill(mirror, name, fetch.commit_of(name, revision, token), token)


@contextmanager
def _measured(path: str, token_env: str, tell: Tell) -> Iterator[Callable[[], tuple[int, int]]]:
    """Tell the driver once a second how many bytes of a model are here; the block gets the function that measures."""
    import ray

    from masters.models import fetch
    from masters.models.folder import from_hub

    with from_hub(path, token_env) as (name, revision, token):
        commit = fetch.commit_of(name, revision, token)
    over, key = threading.Event(), f"{ray.get_runtime_context().get_node_id()} {name}"

    def measure() -> tuple[int, int]:
        return fetch.progress(name, commit)

    def watch() -> None:
        while not over.wait(_MEASURE_SECONDS):
            tell((key, *measure()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield measure
    finally:
        over.set()
        thread.join()
    tell((key, *measure()))


@contextmanager
def _told(screen: Screen, stage: str, unit: str) -> Iterator[Tell]:
    """A function for tasks; what it is told is added up and shown here."""
    from masters.stages.cluster import heard

    bytes_done: dict[str, tuple[int, int]] = {}
    with screen.track(stage, 0, unit) as tracker:

        def show(item: tuple[str, int, int]) -> None:
            key, done, total = item
            bytes_done[key] = (done, total)
            _advance(tracker, bytes_done)

        with heard(show) as tell:
            yield tell


def _advance(tracker: Tracker, bytes_done: dict[str, tuple[int, int]]) -> None:
    done, total = (sum(sizes) // 10**6 for sizes in zip(*bytes_done.values(), strict=True))
    tracker.total = total
    tracker.advance(done - tracker.done)
