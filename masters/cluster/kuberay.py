"""KubeRay's operator, as far as its own pods tell: how long it waits for the head of a RayJob."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from masters.cluster.access import Target, kubectl

PATIENCE = "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS"
_OWN, _ENOUGH = 300, 900
"""Seconds: KubeRay's own; what a lost node takes to be noticed, replaced, and to have the image."""
_FIRST = (1, 7)
"""Version whose RayJobs fail for good when the time is over."""
_VERSION = re.compile(r":v?(\d+)\.(\d+)")


def impatience(values: Mapping[str, Any], namespace: str = "") -> str:
    """What to do where the operator ends a RayJob of a lost head early; empty where it does not, or nobody may look.

    Args:
        values: of the chart, complete: they say where the operator is.
        namespace: of the release.
    """
    own = (values.get("operator") or {}).get("enabled")
    there = namespace if own else str((values.get("networkPolicy") or {}).get("operatorNamespace") or "")
    try:
        found = kubectl(
            Target(namespace=there), "get", "pods", "-l", "app.kubernetes.io/component=kuberay-operator", "-o", "json"
        )
    except ValueError:  # no cluster here, or no right to see its pods: k8s/docs/losses.md has the line to type
        return ""
    for image, seconds in _operators(found):
        version = _VERSION.search(image)
        if seconds < _ENOUGH and not (version and (int(version[1]), int(version[2])) < _FIRST):
            return (
                f"the operator ({image}) ends a RayJob for good whose head is away for {seconds} s, less than a new node takes: "
                f"set {PATIENCE} to 3600 in its environment (k8s/docs/losses.md)"
            )
    return ""


def _operators(pods: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Image and patience of each."""
    for pod in pods.get("items", ()):
        for container in pod["spec"]["containers"]:
            given = {one["name"]: one.get("value") for one in container.get("env", ())}.get(PATIENCE)
            yield container["image"], int(given) if given and given.isdigit() else _OWN
