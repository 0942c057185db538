"""The loop of the stand-in operator (see `operator`): `python -m tests.k8s.lab.reconcile KUBECONFIG`. For tests only."""

import base64
import json
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import requests
import yaml

from tests.k8s.lab import operator

_ENDED = ("Complete", "Failed")
_HEAD = requests.Session()
_HEAD.trust_env = False  # no proxy of this machine between us and a pod


class Api:
    """The API server, as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path):
        config = yaml.safe_load(kubeconfig.read_text())
        self._server = config["clusters"][0]["cluster"]["server"]
        self._session = requests.Session()
        self._session.trust_env = False  # a bundle of certificates named there would replace the cluster's
        self._session.verify = config["clusters"][0]["cluster"]["certificate-authority"]
        self._session.headers["Authorization"] = f"Bearer {config['users'][0]['user']['token']}"

    def call(self, verb: str, path: str, body: dict | None = None, kind: str = "application/json") -> dict:
        """The answer; {} where the object is not there (any more), or is there already."""
        answer = self._session.request(
            verb,
            self._server + path,
            data=json.dumps(body) if body else None,
            headers={"Content-Type": kind},
            timeout=30,
        )
        if answer.status_code in (404, 409):
            return {}
        answer.raise_for_status()
        return answer.json()

    def rays(self, kind: str) -> Iterator[dict]:
        """All RayClusters, or RayJobs."""
        for item in self.call("GET", f"/apis/ray.io/v1/{kind}").get("items", []):
            yield {**item, "kind": {"rayclusters": "RayCluster", "rayjobs": "RayJob"}[kind]}

    def create(self, made: dict, path: str) -> dict:
        """Create an object, once."""
        return self.call("POST", f"{path}/namespaces/{made['metadata']['namespace']}/{_plural(made)}", made)

    def set_status(self, thing: dict, status: dict) -> None:
        """Merge into the status of a RayCluster or RayJob."""
        if {key: thing.get("status", {}).get(key) for key in status} != status:
            self.call("PATCH", f"{_path(thing)}/status", {"status": status}, "application/merge-patch+json")


def reconcile_cluster(api: Api, cluster: dict) -> None:
    """Make what is missing, end what is too much, say how it is."""
    if cluster["metadata"].get("deletionTimestamp"):
        return
    for made, path in _fixed(cluster):
        api.create(made, path)
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    pods = api.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={operator.CLUSTER}={name}").get(
        "items", []
    )
    living = []
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        if pod["status"].get("phase") in ("Failed", "Succeeded"):
            _delete_pod(api, pod)
        else:
            living.append(pod)
    heads = [pod for pod in living if pod["metadata"]["labels"][operator.KIND] == "head"]
    leaving = any(p["metadata"]["labels"][operator.KIND] == "head" for p in pods if p not in living)
    if not heads and not leaving:
        api.create(operator.head_pod(cluster), "/api/v1")
    ready = 0
    for index, group in enumerate(cluster["spec"]["workerGroupSpecs"]):
        ready += _reconcile_group(api, cluster, index, group, living)
    status = {"availableWorkerReplicas": ready, "observedGeneration": cluster["metadata"]["generation"]}
    if heads and _is_ready(heads[0]):
        status |= {
            "state": "ready",
            "head": {"serviceName": f"{name}-head-svc", "podIP": heads[0]["status"]["podIP"], "podName": heads[0]["metadata"]["name"]},
        }  # fmt: skip
    elif cluster.get("status", {}).get("state") == "ready":
        status["state"] = ""
    api.set_status(cluster, status)


def _fixed(cluster: dict) -> Iterator[tuple[dict, str]]:
    secret = operator.token_secret(cluster)
    if secret is not None:
        yield secret, "/api/v1"
    yield operator.head_service(cluster), "/api/v1"
    if cluster["spec"].get("enableInTreeAutoscaling"):
        for made in operator.access(cluster):
            yield made, "/apis/rbac.authorization.k8s.io/v1"


def _reconcile_group(api: Api, cluster: dict, index: int, group: dict, living: list[dict]) -> int:
    """Pods of a group come to the wanted number; those that the autoscaler named go first. Number of ready ones."""
    own = [pod for pod in living if pod["metadata"]["labels"][operator.GROUP] == group["groupName"]]
    named = group.get("scaleStrategy", {}).get("workersToDelete") or []
    for pod in [pod for pod in own if pod["metadata"]["name"] in named]:
        _delete_pod(api, pod)
        own.remove(pod)
    for _ in range(group["replicas"] - len(own)):
        api.create(operator.worker_pod(cluster, group), "/api/v1")
    for pod in own[group["replicas"] :]:
        _delete_pod(api, pod)
    if named:
        patch = [
            {"op": "replace", "path": f"/spec/workerGroupSpecs/{index}/scaleStrategy/workersToDelete", "value": []}
        ]
        api.call("PATCH", _path(cluster), patch, "application/json-patch+json")
    return sum(map(_is_ready, own))


@dataclass
class Attempts:
    """When an attempt of each RayJob began, and when it ended."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)


def reconcile_job(api: Api, job: dict, attempts: Attempts) -> None:
    """A cluster of its own, one submission over HTTP, retries with new clusters, deletion by rule."""
    uid, status, spec = job["metadata"]["uid"], job.get("status", {}), job["spec"]
    if job["metadata"].get("deletionTimestamp"):
        return
    now, state, name = time.time(), status.get("jobDeploymentStatus", ""), status.get("rayClusterName", "")
    if state in _ENDED:
        rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
        after = min(
            (rule["condition"].get("ttlSeconds", 0) for rule in rules), default=spec.get("ttlSecondsAfterFinished", 0)
        )
        if now - attempts.ended.setdefault(uid, now) >= after:
            api.call("DELETE", f"/apis/ray.io/v1/namespaces/{job['metadata']['namespace']}/rayclusters/{name}")
        return
    if not name:
        attempts.began[uid] = now
        _new_attempt(api, job)
        return
    cluster = api.call("GET", f"/apis/ray.io/v1/namespaces/{job['metadata']['namespace']}/rayclusters/{name}")
    if state in ("", "Initializing"):
        if now - attempts.began.setdefault(uid, now) > spec.get("preRunningDeadlineSeconds", 1e9):
            api.set_status(job, {"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded"})
        elif cluster.get("status", {}).get("state") == "ready":
            _submit(api, job, cluster)
        return
    said = _ask_head(api, cluster, "GET", f"/api/jobs/{status['jobId']}")
    if said is None:
        return  # no head that answers; a new one will not know the job
    if not said or said.get("status") in ("FAILED", "STOPPED"):
        _end_attempt(
            api, job, name, said.get("message", "the head does not know the job") if said else "the head was replaced"
        )
    elif said["status"] == "SUCCEEDED":
        api.set_status(job, {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete", "endTime": _now()})
    else:
        api.set_status(job, {"jobStatus": said["status"]})


def _new_attempt(api: Api, job: dict) -> None:
    name = f"{job['metadata']['name']}-{secrets.token_hex(3)[:5]}"
    owner = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    made = {
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "spec": job["spec"]["rayClusterSpec"],
        "metadata": {
            "name": name, "namespace": job["metadata"]["namespace"], "ownerReferences": [owner],
            "labels": {"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": job["metadata"]["name"]},
        },
    }  # fmt: skip
    api.create(made, "/apis/ray.io/v1")
    status = {
        "rayClusterName": name,
        "jobDeploymentStatus": "Initializing",
        "jobStatus": "",
        "jobId": f"{name}-{secrets.token_hex(2)}",
    }
    api.set_status(job, status)


def _submit(api: Api, job: dict, cluster: dict) -> None:
    body = {"entrypoint": job["spec"]["entrypoint"], "submission_id": job["status"]["jobId"]}
    if _ask_head(api, cluster, "POST", "/api/jobs/", body):
        api.set_status(job, {"jobDeploymentStatus": "Running", "jobStatus": "PENDING", "startTime": _now()})


def _end_attempt(api: Api, job: dict, cluster: str, why: str) -> None:
    failed = job["status"].get("failed", 0) + 1
    api.call("DELETE", f"/apis/ray.io/v1/namespaces/{job['metadata']['namespace']}/rayclusters/{cluster}")
    if failed > job["spec"].get("backoffLimit", 0):
        status = {"failed": failed, "jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "message": why}
    else:
        status = {"failed": failed, "jobDeploymentStatus": "", "rayClusterName": ""}
    api.set_status(job, status)


def _ask_head(api: Api, cluster: dict, verb: str, path: str, body: dict | None = None) -> dict | None:
    """The dashboard's answer; {} for an unknown job, None where no head answers."""
    if cluster.get("status", {}).get("state") != "ready":
        return None
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    wanted = cluster["spec"].get("authOptions", {}).get("secretName") or name
    secret = api.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{wanted}")
    token = base64.b64decode(secret["data"]["auth_token"]).decode()
    try:
        answer = _HEAD.request(
            verb, f"http://{cluster['status']['head']['podIP']}:8265{path}", json=body, timeout=10,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
    except requests.RequestException:
        return None
    if answer.status_code == 404:
        return {}
    return answer.json() if answer.ok else None


def _delete_pod(api: Api, pod: dict) -> None:
    api.call("DELETE", f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}")


def _is_ready(pod: dict) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def _plural(made: dict) -> str:
    return f"{made['kind'].lower()}s"


def _path(thing: dict) -> str:
    return f"/apis/ray.io/v1/namespaces/{thing['metadata']['namespace']}/{_plural(thing)}/{thing['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    """Until it is ended."""
    api, attempts = Api(Path(sys.argv[1])), Attempts()
    while True:
        for kind, reconcile in (
            ("rayclusters", lambda one: reconcile_cluster(api, one)),
            ("rayjobs", lambda one: reconcile_job(api, one, attempts)),
        ):
            try:
                for one in api.rays(kind):
                    reconcile(one)
            except requests.RequestException as error:
                print(_now(), error, getattr(error.response, "text", "")[:2000], flush=True)
        time.sleep(1)


if __name__ == "__main__":
    main()
