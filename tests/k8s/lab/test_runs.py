"""Masters' commands about RayJobs, as somebody with the Role of people who submit, against a real API server and KubeRay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masters.cluster.rayjob import Limits, manifests, to_yaml
from tests.k8s.lab.controlplane import Cluster, CommandError, wait
from tests.k8s.lab.test_release import install, ray_cluster, wait_for_rights
from tests.k8s.render.test_submitters import KEPT, NEEDED
from tests.k8s.tools import find

pytestmark = pytest.mark.engine

SPACE = "people"
ANA = ("--set", "submitters.create=true,submitters.subjects[0].kind=User,submitters.subjects[0].name=ana")


@pytest.fixture(scope="module")
def ana(cluster, chart, tmp_path_factory):
    """The cluster, as somebody who may submit sees it."""
    install(cluster, chart, SPACE, "minimal", *ANA)
    wait_for_rights(cluster, SPACE)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"]["as"] = "ana"
    folder = tmp_path_factory.mktemp("ana")
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return Cluster(folder, folder / "kubeconfig", cluster.namespace)


def masters(ana, *arguments):
    """What a command of ours prints; no password of a cloud, and no other cluster, is in its environment."""
    path = f"{Path(find('kubectl')).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "KUBECONFIG": str(ana.kubeconfig), "HOME": str(ana.folder), "PYTHONPATH": os.getcwd()}
    command = ana.inside([str(Path(sys.executable).with_name("masters")), *arguments, "-n", SPACE])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_role_is_what_the_api_server_makes_of_it(ana):
    def may(verb, group, resource, name):
        kind, _, part = resource.partition("/")
        asked = f"{kind}.{group}" if group else kind
        options = (f"--subresource={part}",) if part else ()
        try:
            return (
                ana.kubectl("auth", "can-i", verb, f"{asked}/{name}" if name else asked, *options, "-n", SPACE).strip()
                == "yes"
            )
        except CommandError:
            return False

    assert [asked for asked in NEEDED if not may(*asked)] == []
    assert [asked for asked in KEPT if may(*asked)] == []


def test_a_rayjob_is_listed_shown_stopped_and_continued_with_that_role(ana, cluster):
    if not cluster.namespace:
        pytest.skip("where nodes are, heads come up; tests/k8s/cluster has that")
    spec = ray_cluster(cluster, SPACE)
    made = to_yaml(manifests(spec, "", "mine", "true", Limits(), namespace=SPACE, directory="s3://bucket/runs/mine"))
    ana.kubectl("apply", "-f", "-", stdin=made)

    def status():
        (job,) = ana.get("rayjobs", "-n", SPACE)
        return job.get("status", {}).get("jobDeploymentStatus")

    def clusters():
        return len(cluster.get("rayclusters", "--namespace", SPACE))

    wait(lambda: status() == "Initializing" and clusters() == 2, 60, status)
    wait(lambda: "pending   head: " in masters(ana, "status", "mine"), 60)
    said = masters(ana, "status", "mine")
    assert "rayjob/mine  Initializing  " in said
    assert "attempts  0 failed, 0 succeeded, 4 at most" in said
    assert "pending   head: " in said
    assert "nodes" in said.partition("pending   head: ")[2].partition("\n")[0]  # the scheduler's words
    rows = [line.split() for line in masters(ana, "list").splitlines()]
    assert [row[:3] for row in rows] == [["run", "kind", "state"], ["mine", "RayJob", "Initializing"]]
    said = masters(ana, "stop", "mine")
    assert said.startswith("rayjob/mine  Suspended\n")
    wait(lambda: clusters() == 1, 60, "its cluster stayed")
    assert status() == "Suspended"
    ana.kubectl("apply", "-f", "-", stdin=made)
    wait(lambda: status() == "Initializing" and clusters() == 2, 60, status)
    ana.kubectl("delete", "rayjob", "mine", "--namespace", SPACE)
    wait(lambda: clusters() == 1, 60, "its cluster stayed")
