"""A head whose node is lost, and a RayJob that goes on: KubeRay's operator, Kubernetes' own evictions, a job server that is played."""

import json
import re
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from masters.cluster.rayjob import Limits, manifests
from tests.k8s.lab import kuberay
from tests.k8s.lab.controlplane import ADDRESS, running, wait
from tests.k8s.lab.test_release import LARGE, install, ray_cluster, wait_for_rights

pytestmark = pytest.mark.engine

HERE = Path(__file__).parent
(VERSION,) = re.findall(r"kuberay/ray-operator (v\S+)", (HERE / "go" / "kuberay" / "go.mod").read_text())
TOLERATED, COLLECTED = 30, 60
"""Seconds: of the chart's toleration; in which Kubernetes collects the pods of a node that is no more."""
S3 = ("--set", "storage.kind=s3")  # no claim that nobody here would bind


@contextmanager
def job_server(cluster, name, lasts):
    """A head's job server whose jobs end after so many seconds; what was submitted to it."""
    program = [sys.executable, HERE / "dashboard.py", ADDRESS, str(kuberay.JOB_SERVER), str(lasts)]
    log = cluster.folder / f"{name}.log"
    with running(cluster, name, program):
        # Else the operator, which looks once when the head is ready, would look again minutes later.
        wait(lambda: "listening" in log.read_text(), 60, "the job server does not start")
        yield lambda: log.read_text().split("submitted ")[1:]


def add_node(cluster, name):
    """A Ready node without a kubelet."""
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = json.dumps({"status": {"capacity": LARGE, "allocatable": LARGE}})
    cluster.kubectl("patch", "node", name, "--subresource", "status", "--type", "merge", "--patch", status)
    cluster.kubectl("taint", "nodes", name, "node.kubernetes.io/not-ready-")


def heads(cluster, namespace):
    """Pods of the RayJob's heads; the release has one of its own."""
    found = cluster.get("pods", "--namespace", namespace, "--selector", "ray.io/node-type=head,ray.io/cluster!=lab")
    return {pod["metadata"]["name"]: pod for pod in found}


def placed(cluster, namespace, but=""):
    """A head that has a node, and another name than the one that is given."""
    found = heads(cluster, namespace).items()
    return next((pod for name, pod in found if name != but and pod["spec"].get("nodeName")), None)


def starts(cluster, namespace, pod):
    """The pod runs and is ready: what a kubelet would report."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    containers = [
        {
            "name": one["name"], "image": one["image"], "imageID": "", "ready": True, "started": True, "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }
        for one in pod["spec"]["containers"]
    ]  # fmt: skip
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Initialized", "ContainersReady", "Ready", "PodScheduled")
    ]  # fmt: skip
    status = {
        "phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "startTime": now, "conditions": conditions,
        "containerStatuses": containers,
    }  # fmt: skip
    patch = ("--subresource", "status", "--type", "merge", "--patch", json.dumps({"status": status}))
    cluster.kubectl("patch", "pod", pod["metadata"]["name"], "--namespace", namespace, *patch)


def status_of(cluster, namespace):
    (job,) = cluster.get("rayjobs", "--namespace", namespace)
    return job.get("status", {})


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("away", [pytest.param(400, id=f"KubeRay {VERSION}, away for 400 s")])
def test_a_rayjob_outlives_the_node_of_its_head(cluster, chart, away):
    if not cluster.namespace:
        pytest.skip("nodes are made, and lost, in a control plane of the tests' own only")
    namespace, one, other = "lost", "node-that-is-lost", "node-that-comes"
    install(cluster, chart, namespace, "minimal", *S3)
    wait_for_rights(cluster, namespace)
    cluster.apply(*manifests(ray_cluster(cluster, namespace), "", "mine", "true", Limits(), namespace=namespace))

    def status():
        (job,) = cluster.get("rayjobs", "--namespace", namespace)
        return job.get("status", {})

    try:
        with job_server(cluster, one, lasts=1e6) as submitted:
            add_node(cluster, one)
            first = wait(lambda: placed(cluster, namespace), 60, "the head has no node")
            lost = first["metadata"]["name"]
            starts(cluster, namespace, first)
            wait(lambda: status().get("jobStatus") == "RUNNING", 90, "the job does not run")
            assert len(submitted()) == 1
            cluster.kubectl("taint", "nodes", one, "node.kubernetes.io/unreachable:NoExecute")  # as its controller does
            began = time.monotonic()

        wait(lambda: "deletionTimestamp" in heads(cluster, namespace)[lost]["metadata"], TOLERATED + 30, "not given up")
        assert time.monotonic() - began > TOLERATED - 10
        time.sleep(5)
        assert heads(cluster, namespace).keys() == {lost}  # nobody says that it has ended, and KubeRay waits for that
        cluster.kubectl("delete", "node", one)  # as a cloud does with a machine that is no more
        wait(lambda: lost not in heads(cluster, namespace), COLLECTED + 60, "the pod of a node that is no more")
        wait(lambda: heads(cluster, namespace), 30, "KubeRay makes no other head")
        while time.monotonic() - began < away:
            assert status()["jobDeploymentStatus"] == "Running", status()
            time.sleep(5)

        with job_server(cluster, other, lasts=3) as submitted:
            add_node(cluster, other)
            second = wait(lambda: placed(cluster, namespace, but=lost), 60, "the second head has no node")
            starts(cluster, namespace, second)
            wait(lambda: status().get("jobStatus") == "SUCCEEDED", 120, "the job did not succeed on its second head")
            assert len(submitted()) == 1
    finally:
        cluster.helm("uninstall", "lab", "--namespace", namespace)
        cluster.kubectl("delete", "rayjob", "mine", "--namespace", namespace, "--wait=false")
        cluster.kubectl("delete", "nodes", one, other, "--ignore-not-found")
