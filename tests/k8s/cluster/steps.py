"""What the tests of the cluster do over and over."""

import base64
import json

from tests.k8s.lab.controlplane import wait

NAMESPACE = "masters"
HERE = ("-n", NAMESPACE, "--release", "lab")
TABLES = ("samples", "images", "thresholds", "responses", "verdicts", "train/rewards", "train/student", "evaluation")


def names(lab, group=""):
    return {pod["metadata"]["name"] for pod in lab.pods(NAMESPACE, group)}


def ready(pod):
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def cluster_ready(lab):
    """The head answers, and nothing of an earlier head is left."""
    (found,) = lab.cluster.get("rayclusters", "--namespace", NAMESPACE)
    pods = lab.pods(NAMESPACE)
    return found.get("status", {}).get("state") == "ready" and all(map(ready, pods)) and len(pods) >= 2


def install(lab):
    lab.install(NAMESPACE)
    wait(lambda: cluster_ready(lab), 240)


def uninstall(lab):
    """Until only what was there before is left."""
    lab.cluster.helm("uninstall", "lab", "--namespace", NAMESPACE)
    kinds = "pods,rayclusters,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,configmaps,persistentvolumeclaims"
    known = {
        ("Secret", "hugging-face"),
        ("ServiceAccount", "default"),
        ("ConfigMap", "kube-root-ca.crt"),
        ("PersistentVolumeClaim", "runs"),
    }

    def left():
        found = {(o["kind"], o["metadata"]["name"]) for o in lab.cluster.get(kinds, "--namespace", NAMESPACE)}
        return found - known - {("Pod", "lab-test")}  # helm keeps the pod of its test

    wait(lambda: not left(), 120, left)


def token(lab):
    secret = json.loads(lab.cluster.kubectl("get", "secret", "lab", "-n", NAMESPACE, "-o", "json"))
    return base64.b64decode(secret["data"]["auth_token"]).decode()


def submit(lab, recipe, storage):
    """`masters submit`, as a process that goes on."""
    return lab.laptop("masters", "submit", recipe, "--set", f"storage=/runs/{storage}", *HERE)


def finish(process, seconds=600):
    printed, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, printed
    return printed


def assert_same(run, reference):
    """The same files with the same bytes, in every table and in the student."""
    for table in TABLES:
        files = {path.relative_to(reference): path for path in sorted((reference / table).rglob("*")) if path.is_file()}
        assert files, table
        there = {path.relative_to(run) for path in (run / table).rglob("*") if path.is_file()}
        assert there == set(files), table
        for name, path in files.items():
            assert (run / name).read_bytes() == path.read_bytes(), name
    assert not list((run / "failures").rglob("*.json"))
