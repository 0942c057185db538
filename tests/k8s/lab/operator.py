"""A stand-in for the KubeRay operator, for tests only: what the documented operator makes of a RayCluster, as plain objects.

With the real operator the same tests must pass; it cannot be had where these tests are made.
"""

import copy
import math
import secrets
from collections.abc import Iterator

from tests.k8s.render.pods import quantity

CLUSTER, KIND, GROUP = "ray.io/cluster", "ray.io/node-type", "ray.io/group"
_CLIPPED = 50
_LIMITS = {"cpu": "200m", "memory": "256Mi"}
_LOGS = {"name": "ray-logs", "mountPath": "/tmp/ray"}
_WAIT = 'until ray health-check --address "$FQ_RAY_IP:6379" >/dev/null 2>&1; do echo waiting for the control plane; sleep 2; done'


def head_service(cluster: dict) -> dict:
    """<cluster>-head-svc, headless."""
    ports = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": _metadata(cluster, f"{_name(cluster)}-head-svc"),
        "spec": {
            "clusterIP": "None", "selector": {CLUSTER: _name(cluster), KIND: "head"},
            "ports": [{"name": p["name"], "port": p["containerPort"], "targetPort": p["containerPort"]} for p in ports],
        },
    }  # fmt: skip


def token_secret(cluster: dict) -> dict | None:
    """The token, where the cluster wants one and names no Secret."""
    wanted = cluster["spec"].get("authOptions", {})
    if wanted.get("mode") != "token" or wanted.get("secretName"):
        return None
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": _metadata(cluster, _name(cluster)),
        "stringData": {"auth_token": secrets.token_urlsafe(32)},
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
    yield head_pod(cluster)
    for group in cluster["spec"]["workerGroupSpecs"]:
        for _ in range(group["replicas"]):
            yield worker_pod(cluster, group)


def head_pod(cluster: dict) -> dict:
    """Ray's head, with the autoscaler beside it."""
    spec = cluster["spec"]["headGroupSpec"]
    made = _pod(cluster, spec, "head", "headgroup", f"{_name(cluster)}-head")
    ray = made["spec"]["containers"][0]
    start = {**spec["rayStartParams"], "metrics-export-port": "8080", "dashboard-agent-listen-port": "52365"}
    if cluster["spec"].get("enableInTreeAutoscaling"):
        start["no-monitor"] = "true"
        made["spec"].setdefault("volumes", []).append({"name": "ray-logs", "emptyDir": {}})
        ray.setdefault("volumeMounts", []).append(_LOGS)
        made["spec"]["containers"].append(_autoscaler(cluster, ray))
        ray["env"].append({"name": "RAY_enable_autoscaler_v2", "value": "1"})
    ray["env"].append({"name": "RAY_ADDRESS", "value": "127.0.0.1:6379"})
    _start(ray, "ray start --head", start, spec, probe=("gcs_healthz", 8265))
    return made


def worker_pod(cluster: dict, group: dict) -> dict:
    """One pod of a group; it waits for the control plane."""
    made = _pod(cluster, group, "worker", group["groupName"], f"{_name(cluster)}-{group['groupName']}-worker")
    ray = made["spec"]["containers"][0]
    service = f"{_name(cluster)}-head-svc.{_namespace(cluster)}.svc.cluster.local"
    ray["env"] += [
        {"name": "FQ_RAY_IP", "value": service},
        {"name": "RAY_IP", "value": service.split(".")[0]},
        {"name": "RAY_ADDRESS", "value": f"{service}:6379"},
    ]
    wait = {
        key: ray[key] for key in ("image", "imagePullPolicy", "securityContext", "env", "volumeMounts") if key in ray
    }
    made["spec"]["initContainers"] = [
        {**copy.deepcopy(wait), "name": "wait-gcs-ready", "command": ["/bin/bash", "-c", "--"], "args": [_WAIT],
         "resources": {"requests": _LIMITS, "limits": _LIMITS}}
    ]  # fmt: skip
    start = {
        **group["rayStartParams"], "address": f"{service}:6379", "metrics-export-port": "8080",
        "dashboard-agent-listen-port": "52365",
    }  # fmt: skip
    _start(ray, "ray start", start, group, probe=("local_raylet_healthz", 52365))
    return made


def _pod(cluster: dict, group: dict, kind: str, name: str, prefix: str) -> dict:
    made = copy.deepcopy(group["template"])
    metadata = made.get("metadata", {})
    labels = {
        CLUSTER: _name(cluster),
        KIND: kind,
        GROUP: name,
        "ray.io/is-ray-node": "yes",
        "app.kubernetes.io/name": "kuberay",
    }
    metadata = _metadata(cluster, f"{prefix[: _CLIPPED - 6]}-{secrets.token_hex(3)[:5]}") | {
        "labels": metadata.get("labels", {}) | labels,
        "annotations": metadata.get("annotations", {}),
    }
    ray = made["spec"]["containers"][0]
    ray["env"] = [*ray.get("env", []), *_environment(cluster)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}


def _environment(cluster: dict) -> list[dict]:
    """What KubeRay gives every Ray container."""
    fields = {
        "RAY_CLUSTER_NAME": f"metadata.labels['{CLUSTER}']", "RAY_CLOUD_INSTANCE_ID": "metadata.name",
        "RAY_NODE_TYPE_NAME": f"metadata.labels['{GROUP}']",
    }  # fmt: skip
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        {"name": "RAY_PORT", "value": "6379"},
        {"name": "RAY_USAGE_STATS_KUBERAY_IN_USE", "value": "1"},
        *_token_environment(cluster),
    ]


def _token_environment(cluster: dict) -> list[dict]:
    wanted = cluster["spec"].get("authOptions", {})
    if wanted.get("mode") != "token":
        return []
    reference = {"name": wanted.get("secretName") or _name(cluster), "key": "auth_token"}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}},
    ]


def _autoscaler(cluster: dict, ray: dict) -> dict:
    options = cluster["spec"].get("autoscalerOptions", {})
    kept = ("securityContext", "resources", "imagePullPolicy")
    fields = {"RAY_CLUSTER_NAMESPACE": "metadata.namespace", "RAY_HEAD_POD_NAME": "metadata.name"}
    return {
        "name": "autoscaler", "image": options.get("image") or ray["image"],
        **{key: options[key] for key in kept if key in options},
        "command": ["/bin/bash", "-c", "--"],
        "args": ["ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)"],
        "env": [
            {"name": "RAY_CLUSTER_NAME", "value": _name(cluster)}, {"name": "KUBERAY_CRD_VER", "value": "v1"},
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
            *_token_environment(cluster), *options.get("env", []),
        ],
        "volumeMounts": [*options.get("volumeMounts", []), _LOGS],
    }  # fmt: skip


def _start(ray: dict, command: str, start: dict, group: dict, probe: tuple[str, int]) -> None:
    """`ray start` with what the container's limits and the group's labels say; probes of the node's own health."""
    limits = {**ray["resources"].get("requests", {}), **ray["resources"].get("limits", {})}
    start = {
        "num-cpus": str(math.ceil(quantity(limits["cpu"]))),
        "memory": str(int(quantity(limits["memory"]))),
        **start,
    }
    if "nvidia.com/gpu" in limits:
        start.setdefault("num-gpus", str(limits["nvidia.com/gpu"]))
    if group.get("labels"):
        start["labels"] = ",".join(f"{key}={value}" for key, value in sorted(group["labels"].items()))
    words = [f"--{key}" if value == "true" else f"--{key}={value}" for key, value in sorted(start.items())]
    ray["command"], ray["args"] = ["/bin/bash", "-c", "--"], [f"ulimit -n 65536; {command} --block {' '.join(words)}"]
    path, port = probe
    check = {"httpGet": {"path": f"/api/{path}", "port": port}, "timeoutSeconds": 5}
    ray.setdefault("readinessProbe", {**check, "initialDelaySeconds": 5, "periodSeconds": 3, "failureThreshold": 100})
    ray.setdefault("livenessProbe", {**check, "initialDelaySeconds": 30, "periodSeconds": 10, "failureThreshold": 120})


def _metadata(cluster: dict, name: str) -> dict:
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": _name(cluster), "uid": cluster["metadata"]["uid"]}
    return {"name": name, "namespace": _namespace(cluster), "ownerReferences": [owner | {"controller": True}]}


def _name(cluster: dict) -> str:
    return cluster["metadata"]["name"]


def _namespace(cluster: dict) -> str:
    return cluster["metadata"]["namespace"]
