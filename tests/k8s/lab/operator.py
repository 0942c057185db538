"""A stand-in for the KubeRay operator, for tests only: what the documented operator makes of a RayCluster, as plain objects.

With the real operator the same tests must pass; it cannot be had where these tests are made.
"""

import copy
from collections.abc import Iterator

_CLIPPED = 50


def head_service(cluster: dict) -> dict:
    """<cluster>-head-svc, headless."""
    ports = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": _metadata(cluster, f"{_name(cluster)}-head-svc"),
        "spec": {
            "clusterIP": "None", "selector": {"ray.io/cluster": _name(cluster), "ray.io/node-type": "head"},
            "ports": [{"name": p["name"], "port": p["containerPort"], "targetPort": p["containerPort"]} for p in ports],
        },
    }  # fmt: skip


def access(cluster: dict) -> list[dict]:
    """Role and binding of the autoscaler; they are bound to the head's own ServiceAccount."""
    name, account = _name(cluster), cluster["spec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"]
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ]
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": _metadata(cluster, name), "rules": rules},
        {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": _metadata(cluster, name),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account[:_CLIPPED], "namespace": _namespace(cluster)}],
        },
    ]  # fmt: skip


def pods(cluster: dict) -> Iterator[dict]:
    """The head, and of each group as many pods as it has replicas."""
    spec = cluster["spec"]
    yield _pod(cluster, spec["headGroupSpec"]["template"], "head", "headgroup", f"{_name(cluster)}-head")
    for group in spec["workerGroupSpecs"]:
        for number in range(group["replicas"]):
            name = f"{_name(cluster)}-{group['groupName']}-worker-{number}"
            yield _pod(cluster, group["template"], "worker", group["groupName"], name[:_CLIPPED])


def _pod(cluster: dict, template: dict, node_type: str, group: str, name: str) -> dict:
    made = copy.deepcopy(template)
    metadata = made.get("metadata", {})
    labels = {"ray.io/cluster": _name(cluster), "ray.io/node-type": node_type, "ray.io/group": group}
    metadata = _metadata(cluster, name) | {
        "labels": metadata.get("labels", {}) | labels,
        "annotations": metadata.get("annotations", {}),
    }
    if node_type == "worker":
        ray = made["spec"]["containers"][0]
        wait = {key: ray[key] for key in ("image", "imagePullPolicy", "securityContext")} | {
            "name": "wait-gcs-ready", "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}},
        }  # fmt: skip
        made["spec"]["initContainers"] = [wait]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}


def _metadata(cluster: dict, name: str) -> dict:
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": _name(cluster), "uid": cluster["metadata"]["uid"]}
    return {"name": name, "namespace": _namespace(cluster), "ownerReferences": [owner | {"controller": True}]}


def _name(cluster: dict) -> str:
    return cluster["metadata"]["name"]


def _namespace(cluster: dict) -> str:
    return cluster["metadata"]["namespace"]
