"""The nodes of a cluster as Ray's control plane remembers them: up, gone, taken away, on their way; and what they cost so far."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masters.cluster.access import Access
from masters.config.placement import NODE_GROUP

HEAD, OTHERS = "head", "others"
_TAKEN = ("Terminated due to preemption", "Unexpected termination")
_PENDING_SECONDS = 10
_LAUNCHING = re.compile(r"(?P<group>\S+), (?P<count>\d+) launching")
_STARTING = re.compile(r"\S*: (?P<group>\S+), ")


@dataclass(frozen=True)
class NodeLife:
    """One node.

    Attributes:
        group: its worker group; `head`, or `others` for a node without a group.
        alive: whether it is up.
        taken: whether it went because of a preemption, or without a word.
        hours: since it joined, until now or until it went.
    """

    group: str
    alive: bool
    taken: bool
    hours: float


def read_nodes(access: Access) -> list[NodeLife]:
    """All nodes that the control plane knows; it remembers a thousand that went. Raises whatever breaks on the way there."""
    from ray.util.state.api import StateApiClient
    from ray.util.state.common import ListApiOptions, StateResource

    client = StateApiClient(access.url, headers={"Content-Type": "application/json", **access.headers})
    found = client.list(StateResource.NODES, ListApiOptions(detail=True), raise_on_missing_output=False)
    return [_life(node, time.time() * 1000) for node in found]


def _life(node: Any, now: float) -> NodeLife:
    alive = node.state == "ALIVE"
    end = now if alive else node.end_time_ms or now
    return NodeLife(
        group=HEAD if node.is_head_node else (node.labels or {}).get(NODE_GROUP, OTHERS),
        alive=alive,
        taken=not alive and (node.state_message or "").startswith(_TAKEN),
        hours=max(0.0, end - (node.start_time_ms or end)) / 3.6e6,
    )


def read_pending(access: Access) -> dict[str, int]:
    """Workers that the autoscaler asked for and that are not up, by worker group. Raises whatever breaks on the way there."""
    from ray.util.state.api import StateApiClient

    client = StateApiClient(access.url, headers=dict(access.headers))
    answer = client._do_request("GET", "/api/cluster_status?format=1", timeout=_PENDING_SECONDS)
    answer.raise_for_status()
    return _pending(answer.json()["data"]["clusterStatus"] or "")


def _pending(report: str) -> dict[str, int]:
    """Out of what `ray status` prints: version 2 of the autoscaler gives the dashboard nothing else."""
    found: Counter[str] = Counter()
    lines = iter(report.splitlines())
    for line in lines:
        if line == "Pending:":
            break
    for line in lines:
        if not line.startswith(" "):
            break
        if launching := _LAUNCHING.fullmatch(line.strip()):
            found[launching["group"]] += int(launching["count"])
        elif starting := _STARTING.match(line.strip()):
            found[starting["group"]] += 1
    return dict(found)


def waiting_lines(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Pods of Kubernetes that are not up yet, with why; those of one group that wait for the same in one line."""
    found = Counter(
        (pod["metadata"].get("labels", {}).get("ray.io/group", OTHERS), _waits_for(pod.get("status", {})))
        for pod in pods
        if pod.get("status", {}).get("phase", "Pending") == "Pending"
    )
    return [
        f"{HEAD if group == 'headgroup' else group}{f', {count} pods' if count > 1 else ''}: {why}"
        for (group, why), count in sorted(found.items())
    ]


def _waits_for(status: Mapping[str, Any]) -> str:
    """The scheduler's words, or those of what keeps a container from starting."""
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return " ".join((condition.get("message") or condition.get("reason") or "not scheduled yet").split())
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waits = container.get("state", {}).get("waiting") or {}
        if waits.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return " ".join(f"{waits['reason']}: {waits.get('message', '')}".rstrip(": ").split())
    return "it starts" if status.get("conditions") else "not scheduled yet"


def nodes_line(nodes: Sequence[NodeLife], pending: Mapping[str, int] | None = None) -> str:
    """By group: how many are up, are on their way, were taken away, went."""
    pending = pending or {}
    up = Counter(node.group for node in nodes if node.alive)
    taken = Counter(node.group for node in nodes if node.taken)
    gone = Counter(node.group for node in nodes if not node.alive and not node.taken)
    return "   ".join(
        ", ".join(
            [
                f"{group} {up[group]} up",
                *([f"{pending[group]} pending"] if pending.get(group) else []),
                *([f"{taken[group]} preempted"] if taken[group] else []),
                *([f"{gone[group]} gone"] if gone[group] else []),
            ]
        )
        for group in sorted({*up, *taken, *gone, *pending})
    )


def parse_prices(given: Sequence[str]) -> dict[str, float]:
    """`GROUP=DOLLARS_PER_HOUR` -> group -> dollars of a pod's node in an hour. Raises ValueError."""
    prices = {}
    for text in given:
        group, _, price = text.partition("=")
        try:
            prices[group] = float(price)
        except ValueError:
            prices[group] = -1.0
        if not group or not 0 <= prices[group] < float("inf"):
            raise ValueError(f"--price {text}: must be GROUP=DOLLARS_PER_HOUR, as in --price generate=0.71.")
    return prices


def cost_line(nodes: Sequence[NodeLife], prices: Mapping[str, float]) -> str:
    """Dollars so far by group, for the time in which each node was part of the cluster; groups without a price are named."""
    hours: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        hours[node.group] += node.hours
    unknown = sorted(set(prices) - set(hours))
    parts = [
        f"{group} {hours[group] * prices[group]:.2f} ({hours[group]:.1f} h)"
        for group in sorted(set(hours) & set(prices))
    ]
    total = sum(hours[group] * price for group, price in prices.items())
    missing = sorted(set(hours) - set(prices))
    return "   ".join(
        [
            f"${total:.2f} so far: {', '.join(parts) or 'nothing'}",
            *([f"no price: {', '.join(missing)}"] if missing else []),
            *([f"no node yet: {', '.join(unknown)}"] if unknown else []),
        ]
    )
