"""`masters submit --manifest` on the rendered chart: a RayJob that KubeRay's schema accepts, and what it promises."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masters.config.problems import RecipeError
from masters.rayjob import RECIPE, job_name, manifests
from tests.k8s.chart import SCENARIOS
from tests.k8s.render import strict
from tests.k8s.render.test_schemas import needs_crds
from tests.k8s.tools import ROOT

COMMAND = f"python -m ray_jobs.pipeline {RECIPE}"


def wrapped(rendered, scenario="gke", name="mine-pipeline"):
    return manifests(name=name, recipe="seed: 1\n", command=COMMAND, cluster=rendered(scenario).objects)


@needs_crds
@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_job_is_what_its_crd_says(rendered, file):
    _, job = wrapped(rendered, file.stem)
    assert strict.problems("RayJob", job) == []


def test_the_drivers_pod_finds_the_recipe(rendered):
    config_map, job = wrapped(rendered)
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = [v for v in head["volumes"] if "configMap" in v]
    (mount,) = [m for m in head["containers"][0]["volumeMounts"] if m["name"] == volume["name"]]
    (key,) = config_map["data"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    assert f"{mount['mountPath']}/{key}" == RECIPE == job["spec"]["entrypoint"].split()[-1]
    assert mount["readOnly"]
    assert config_map["data"][key] == "seed: 1\n"


def test_a_retry_is_allowed_and_no_gpu_waits_for_anything(rendered):
    spec = wrapped(rendered)[1]["spec"]
    assert spec["backoffLimit"] >= 1
    assert "clusterSelector" not in spec  # KubeRay forbids retries on a cluster that is there
    assert not spec.keys() & {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}  # excluded by deletionRules
    assert 600 <= spec["preRunningDeadlineSeconds"] <= 3600
    rules = [(r["policy"], *r["condition"].values()) for r in spec["deletionStrategy"]["deletionRules"]]
    assert ("DeleteWorkers", "FAILED", 0) in rules
    assert all(any(r[0] == "DeleteCluster" and r[1] == end for r in rules) for end in ("SUCCEEDED", "FAILED", "Failed"))


def test_a_running_cluster_is_copied_without_its_state(rendered):
    live = yaml.safe_load(yaml.safe_dump(rendered("gke").cluster))
    for group in live["spec"]["workerGroupSpecs"]:
        group |= {"replicas": 3, "scaleStrategy": {"workersToDelete": ["a-pod"]}}
    before = yaml.safe_dump(live)
    _, job = manifests(name="x", recipe="", command="", cluster=[live])
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [g["replicas"] for g in groups] == [g["minReplicas"] for g in groups]
    assert not any("scaleStrategy" in g for g in groups)
    assert yaml.safe_dump(live) == before


@pytest.mark.parametrize("count", [0, 2])
def test_one_cluster_is_needed(rendered, count):
    with pytest.raises(RecipeError, match=f"holds {count} RayClusters, one is needed"):
        manifests(name="x", recipe="", command="", cluster=[rendered("gke").cluster] * count)


@pytest.mark.parametrize(
    ("run", "expected"),
    [("mine", "mine-evaluate"), ("7b.from_32b", "run-7b-from-32b-evaluate"), ("a" * 40, "a" * 38 + "-")],
)
def test_names_are_short_labels(run, expected):
    name = job_name(run, "evaluate")
    assert name.startswith(expected)
    assert len(name) <= 47
    assert name.replace("-", "").isalnum()
    assert name[0].isalpha()


def test_long_names_do_not_meet():
    assert job_name("a" * 39 + "b", "evaluate") != job_name("a" * 39 + "c", "evaluate")


def test_the_command_prints_it(rendered, tmp_path):
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump_all(rendered("gke").objects))
    command = ["submit", ROOT / "recipes" / "tiny.yaml", "--stage", "mask", "--manifest", tmp_path / "cluster.yaml"]
    masters = Path(sys.executable).with_name("masters")
    done = subprocess.run([masters, *command, "--set", "storage=s3://b/r"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config_map, job = yaml.safe_load_all(done.stdout)
    assert (config_map["kind"], job["kind"]) == ("ConfigMap", "RayJob")
    assert config_map["data"]["recipe.yaml"] == (ROOT / "recipes" / "tiny.yaml").read_text()
    assert shlex.split(job["spec"]["entrypoint"])[2:] == ["ray_jobs.mask", RECIPE, "storage=s3://b/r", "name=tiny"]
    assert job["spec"]["rayClusterSpec"] != rendered("gke").cluster["spec"]
