"""Tier C: real kubelets, real Ray pods, Ray's own autoscaler. Tests run in their order; each needs those before it."""

import os
import time
from datetime import datetime

import pytest

from masters.cluster.rayjob import Limits, manifests, recipe_place, render_cluster, to_yaml
from masters.cluster.submit import entrypoint
from tests.k8s.chart import CHART
from tests.k8s.cluster.lab import PLANTED, SPOT
from tests.k8s.cluster.steps import (
    HERE,
    NAMESPACE,
    assert_same,
    cluster_ready,
    finish,
    finish_followed,
    install,
    logged_without_a_cluster,
    names,
    ready,
    shown_and_stopped_by_name,
    submit,
    token,
    uninstall,
)
from tests.k8s.lab.controlplane import wait
from tests.k8s.tools import TOOLS

ASK = "import ray, time; ray.init(); f = ray.remote(num_cpus=0.1, {needs})(lambda: time.sleep(2)); ray.get(f.remote())"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def shards(lab, storage):
    return len(list((lab.runs / storage / "small" / "responses").rglob("*.parquet")))


def test_the_first_install_comes_to_ready_under_the_restricted_standard(lab):
    install(lab)
    assert len(names(lab, "judge")) == 1
    assert not names(lab, "generate") | names(lab, "train")


def test_helm_test_submits_a_job_with_the_token(lab):
    assert "Succeeded" in lab.cluster.helm("test", "lab", "--namespace", NAMESPACE, "--timeout", "5m")


@pytest.mark.parametrize(("header", "code"), [((), "401"), (("-H", "Authorization: Bearer wrong"), "403")])
def test_without_the_token_nothing_is_answered(lab, header, code):
    with lab.job_server(NAMESPACE) as address:
        asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *header, f"{address}/api/jobs/")
        assert finish(lab.laptop(*asked), 60) == code


@pytest.mark.parametrize("needs", ["num_gpus=1", "label_selector={'ray.io/node-group': 'generate'}"])
def test_a_task_brings_up_its_own_group_and_idle_pods_go(lab, needs):
    others = names(lab, "judge") | names(lab, "train")
    with lab.job_server(NAMESPACE) as address:
        ray = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token(lab)}
        job = lab.laptop("ray", "job", "submit", "--", "python", "-c", ASK.format(needs=needs), variables=ray)
        (pod,) = wait(lambda: lab.pods(NAMESPACE, "generate"), 120)
        assert "succeeded" in finish(job, 240)
    assert names(lab, "judge") | names(lab, "train") == others
    wait(lambda: not names(lab, "generate"), 120, "an idle pod stayed")
    assert pod["spec"]["nodeSelector"] == {"lab/capacity": "spot"}


def test_a_run_upgraded_in_flight_equals_the_one_on_one_machine(lab, recipe, reference):
    process = submit(lab, recipe, "whole")
    pair = wait(lambda: (found := lab.pods(NAMESPACE, "train")) and len(found) == 2 and found, 400, "no gang")
    made = [datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in pair]
    assert abs((made[0] - made[1]).total_seconds()) <= 3  # in one round: the autoscaler asks every 5 s
    wait(lambda: all(map(ready, lab.pods(NAMESPACE, "train"))), 200)
    before = names(lab)
    lab.install(NAMESPACE, "--set", "workerGroups.generate.maxReplicas=3", "--force-conflicts", action="upgrade")
    printed = finish(process)
    assert "SUCCEEDED" in printed
    assert before & names(lab, "headgroup") | before & names(lab, "judge") <= names(lab)
    assert_same(lab.runs / "whole" / "small", reference)


def test_no_secret_is_seen_in_objects_logs_or_the_job_server(lab):
    """After a whole run. The token of the hub reaches the containers, and the job server's the clients, by reference."""
    (head,) = lab.pods(NAMESPACE, "headgroup")
    exec_ = ("exec", head["metadata"]["name"], "-n", NAMESPACE, "-c", "ray-head", "--")
    assert lab.cluster.kubectl(*exec_, "printenv", "HF_TOKEN").strip() == PLANTED
    with lab.job_server(NAMESPACE) as address:
        jobs = finish(lab.laptop("curl", "-s", "-H", f"Authorization: Bearer {token(lab)}", f"{address}/api/jobs/"), 60)
    seen = {
        "objects": lab.cluster.kubectl("get", "rayclusters,pods,configmaps,events", "--namespace", NAMESPACE, "-o", "yaml"),
        "jobs": jobs,
        "printed": lab.masters("logs", "--verbose", *HERE),
        "Ray's logs": lab.cluster.kubectl(*exec_, "bash", "-c", "cat /tmp/ray/session_latest/logs/*.*"),
        "the run": "".join(file.read_text() for file in (lab.runs / "whole" / "small").rglob("*.json")),
        "the run's log": "".join(file.read_text() for file in (lab.runs / "whole" / "small" / "logs").iterdir()),
    }  # fmt: skip
    assert "ray_jobs.pipeline" in seen["jobs"]
    for place, text in seen.items():
        assert len(text) > 100, place
        assert PLANTED not in text, place
        assert token(lab) not in text, place


def test_a_spot_worker_that_gets_sigterm_drains_and_nothing_is_lost(lab, recipe, reference):
    process = submit(lab, recipe, "drained")
    wait(lambda: shards(lab, "drained"), 300, "no shard")
    (pod, *_) = wait(lambda: [p["metadata"]["name"] for p in lab.pods(NAMESPACE, "generate") if ready(p)], 60)
    lab.cluster.kubectl("delete", "pod", pod, "--namespace", NAMESPACE)
    (head,) = lab.pods(NAMESPACE, "headgroup")
    lines = lab.cluster.kubectl(
        "exec", head["metadata"]["name"], "-n", NAMESPACE, "-c", "ray-head", "--",
        "grep", "-h", "DRAIN_NODE_REASON_PREEMPTION", "/tmp/ray/session_latest/logs/gcs_server.out",
    )  # fmt: skip
    assert lines.strip()
    finish(process)
    assert "1 preempted" in lab.masters("status", *HERE)
    assert_same(lab.runs / "drained" / "small", reference)


def test_a_spot_node_without_power_and_no_other_one_for_a_while(lab, recipe, reference):
    if lab.nodes is None:
        pytest.skip("nobody here may take the power of a node of this cluster")
    process = submit(lab, recipe, "power")
    wait(lambda: shards(lab, "power"), 300, "no shard")
    lab.nodes.power_off("spot-1")
    done = shards(lab, "power")
    lab.cluster.kubectl("delete", "node", "spot-1")  # as the cloud's controller does
    wait(lambda: (found := lab.pods(NAMESPACE, "generate")) and all(p["status"]["phase"] == "Pending" and not p["spec"].get("nodeName") for p in found), 200, "nothing waits for capacity")  # fmt: skip
    time.sleep(20)
    assert process.poll() is None
    assert shards(lab, "power") == done
    lab.nodes.start(SPOT)
    finish(process)
    assert_same(lab.runs / "power" / "small", reference)


def test_a_run_whose_head_dies_goes_on_when_it_is_submitted_again(lab, recipe, reference):
    process = submit(lab, recipe, "headless")
    wait(lambda: (lab.runs / "headless" / "small" / "train" / "checkpoints").is_dir(), 400, "no training")
    (head,) = names(lab, "headgroup")
    lab.cluster.kubectl("delete", "pod", head, "--namespace", NAMESPACE)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode, printed
    wait(lambda: names(lab, "headgroup") - {head} and cluster_ready(lab), 240, "no new head")
    printed = finish(submit(lab, recipe, "headless"))
    assert "generate  done" in printed
    assert_same(lab.runs / "headless" / "small", reference)


KILL = """
import json, os, urllib.request
asked = urllib.request.Request("http://127.0.0.1:8265/api/jobs/", headers={"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]})
(job,) = json.load(urllib.request.urlopen(asked))
os.kill(int(job["driver_info"]["pid"]), 9)
"""


def test_a_rayjob_runs_the_pipeline_on_a_cluster_of_its_own_and_continues_on_another_when_it_failed(
    lab, recipe, reference, monkeypatch
):
    monkeypatch.setenv("PATH", f"{TOOLS}:{os.environ['PATH']}")  # helm
    cluster = render_cluster("lab", NAMESPACE, [CHART / "ci" / "lab.yaml"], lab.chart)
    command = entrypoint(recipe_place("small"), ["storage=/runs/rayjob"])
    limits = Limits(ready_seconds=300, total_seconds=900, kept_seconds=5)
    made = manifests(
        cluster, recipe.read_text(), "small", command, limits, namespace=NAMESPACE, directory="/runs/rayjob/small"
    )
    applied = ("apply", "--filename", "-")
    lab.cluster.kubectl(*applied, stdin=to_yaml(made))

    def status():
        (job,) = lab.cluster.get("rayjobs", "--namespace", NAMESPACE)
        return job.get("status", {})

    wait(lambda: shards(lab, "rayjob"), 400, status)
    first, done = status()["rayClusterName"], shards(lab, "rayjob")
    (head,) = [pod for pod in lab.pods(NAMESPACE, "headgroup") if pod["metadata"]["labels"]["ray.io/cluster"] == first]
    lab.cluster.kubectl("exec", head["metadata"]["name"], "-n", NAMESPACE, "-c", "ray-head", "--", "python", "-c", KILL)
    wait(lambda: status().get("failed") == 1, 120, status)
    wait(lambda: status().get("jobStatus") == "RUNNING" and status()["rayClusterName"] != first, 200, status)
    shown_and_stopped_by_name(lab)
    lab.cluster.kubectl(*applied, stdin=to_yaml(made))  # as its owner does who wants it to continue
    finish_followed(lab)
    wait(lambda: status().get("jobDeploymentStatus") in ("Complete", "Failed"), 60, status, every=2)
    assert status()["jobStatus"] == "SUCCEEDED", status()
    assert status()["rayClusterName"] != first
    assert done
    wait(lambda: len(lab.cluster.get("rayclusters", "--namespace", NAMESPACE)) == 1, 60, "its cluster stayed")
    logged_without_a_cluster(lab, lab.runs / "rayjob" / "small")
    assert_same(lab.runs / "rayjob" / "small", reference)
    lab.cluster.kubectl("delete", "rayjob", "--selector", "app.kubernetes.io/part-of=masters", "-n", NAMESPACE)


def test_uninstall_leaves_only_the_claim_that_was_there(lab):
    uninstall(lab)
