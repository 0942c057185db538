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


RAYJOB = "rayjob/small"  # jobs of the release are called `small`, too


def shown_and_stopped_by_name(lab):
    """A RayJob that runs: shown by `status` and `list`, its cluster gone after `stop`, and itself still there."""
    there = ("-n", NAMESPACE)
    ambiguous = finish(lab.laptop("sh", "-c", f"masters status small -n {NAMESPACE} --release lab 2>&1; true"), 120)
    assert f"Name one of them: {RAYJOB}, or " in ambiguous
    said = lab.masters("status", RAYJOB, *there)
    assert f"{RAYJOB}  RUNNING (Running)" in said
    assert "attempts  1 failed, 0 succeeded, 4 at most" in said
    assert "nodes     " in said
    (row,) = [line for line in lab.masters("list", *there).splitlines() if RAYJOB in line]
    assert row.split()[:3] == ["small", "RayJob", "RUNNING"]
    said = lab.masters("stop", RAYJOB, *there)
    assert f"{RAYJOB}  Suspended" in said
    wait(lambda: len(lab.cluster.get("rayclusters", "--namespace", NAMESPACE)) == 1, 60, "its cluster stayed")
    assert f"{RAYJOB}  Suspended" in lab.masters("status", RAYJOB, *there)


def finish_followed(lab, seconds=600):
    """From its new start to its end."""
    said = lab.masters("logs", RAYJOB, "--follow", "-n", NAMESPACE, seconds=seconds)
    assert "generate  done" in said or "generate  continuing" in said
    assert f"{RAYJOB}  SUCCEEDED (Complete)   1 failed, 1 succeeded, 4 at most" in said


def logged_without_a_cluster(lab, run):
    """Three attempts, a log of each: killed, stopped, finished."""
    killed, stopped, finished = sorted((run / "logs").iterdir())
    assert "generate" in killed.read_text()
    assert "note      SIGTERM" in stopped.read_text()
    assert "report" in finished.read_text()
    assert "report" in lab.masters("logs", run)
    asked = finish(lab.laptop("sh", "-c", f"masters logs {RAYJOB} -n {NAMESPACE} 2>&1; true"), 120)
    assert "Its cluster is gone" in asked  # and /runs is no folder of the laptop
