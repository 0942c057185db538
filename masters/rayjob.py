"""A RayJob that runs a recipe on a cluster of its own: for `kubectl apply`, GitOps and queues. Pure: plain data in and out.

A retry of a RayJob is a new cluster, and so is what follows a dead head; the stages continue from storage. When the job has
ended no GPU waits: workers go at once, the head stays a while for its logs.
"""

import copy
import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from masters.config.problems import Problem, RecipeError

RECIPE = "/etc/masters/recipe.yaml"
RETRIES = 3
NEVER_READY_SECONDS = 1800
HEAD_STAYS_SECONDS = 3600
_LONGEST_NAME = 47  # KubeRay's limit: names of pods are made from it


def job_name(run: str, stage: str) -> str:
    """A DNS label of at most 47 characters from the run's and the stage's names; shortened ones end in a hash."""
    wanted = f"{run}-{stage}"
    name = re.sub(r"[^a-z0-9-]", "-", wanted if wanted[0].isalpha() else f"run-{wanted}").rstrip("-")
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def manifests(
    *, name: str, recipe: str, command: str, cluster: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A ConfigMap with the recipe and the RayJob that runs it.

    Args:
        name: of both, see `job_name`.
        recipe: the recipe's text.
        command: the job's entrypoint, which finds the recipe at `RECIPE`.
        cluster: objects that hold one RayCluster: the rendered chart, or the cluster that runs. Its spec becomes the job's.

    Raises:
        RecipeError: where there is no RayCluster, or more than one.
    """
    found = [one for one in cluster if one.get("kind") == "RayCluster"]
    if len(found) != 1:
        rule = f"holds {len(found)} RayClusters, one is needed"
        remedy = "Write it with `helm template RELEASE k8s/chart --values values.yaml`."
        raise RecipeError("--manifest", [Problem("file", None, rule, remedy)])
    namespace = found[0]["metadata"].get("namespace")
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": "masters"}}
    if namespace:
        metadata["namespace"] = namespace
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {os.path.basename(RECIPE): recipe},
    }
    spec = {
        "entrypoint": command,
        "submissionMode": "HTTPMode",  # no pod of its own that could be evicted, nor one that pulls an image
        "backoffLimit": RETRIES,
        "preRunningDeadlineSeconds": NEVER_READY_SECONDS,
        "deletionStrategy": {"deletionRules": _deletion_rules()},
        "rayClusterSpec": _with_recipe(found[0]["spec"], name),
    }
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": copy.deepcopy(metadata), "spec": spec}
    return config_map, job


def _deletion_rules() -> list[dict[str, Any]]:
    return [
        {"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 60}},
        {"policy": "DeleteWorkers", "condition": {"jobStatus": "FAILED", "ttlSeconds": 0}},
        {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": HEAD_STAYS_SECONDS}},
        {"policy": "DeleteCluster", "condition": {"jobDeploymentStatus": "Failed", "ttlSeconds": HEAD_STAYS_SECONDS}},
    ]


def _with_recipe(spec: dict[str, Any], config_map: str) -> dict[str, Any]:
    """The cluster's spec with the recipe mounted in the head, where drivers run, and groups at their smallest."""
    spec = copy.deepcopy(spec)
    head = spec["headGroupSpec"]["template"]["spec"]
    head["volumes"] = [*head.get("volumes", []), {"name": "recipe", "configMap": {"name": config_map}}]
    container = head["containers"][0]
    mount = {"name": "recipe", "mountPath": os.path.dirname(RECIPE), "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    for group in spec.get("workerGroupSpecs", []):
        group.pop("scaleStrategy", None)  # names pods of another cluster
        group["replicas"] = group.get("minReplicas", 0)
    return spec
