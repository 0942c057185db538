"""`masters submit --manifest` on the chart as it is: RayJobs that KubeRay's schema accepts."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masters.cluster.rayjob import Limits, manifests, render_cluster
from tests.k8s.chart import SCENARIOS
from tests.k8s.render.strict import needs_crds, problems
from tests.k8s.tools import ROOT, TOOLS


@needs_crds
@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_kuberays_schema_accepts_the_job_of_every_scenario(rendered, file):
    (job,) = manifests(rendered(file.stem).cluster, "seed: 1", "mine", "true", Limits())
    assert problems("RayJob", job) == []
    assert all(group["replicas"] == group["minReplicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"])


def test_helm_renders_the_cluster_that_is_wrapped(chart, rendered, monkeypatch):
    monkeypatch.setenv("PATH", str(TOOLS), prepend=":")
    values = ROOT / "k8s" / "chart" / "ci" / "gke.yaml"
    assert render_cluster("lab", "masters", [values], chart) == rendered("gke").cluster


def test_a_chart_without_its_dependency_says_what_to_type(rendered):
    masters = Path(sys.executable).with_name("masters")
    values = ROOT / "k8s" / "chart" / "ci" / "minimal.yaml"
    command = [
        masters,
        "submit",
        ROOT / "recipes" / "tiny.yaml",
        "--manifest",
        "--release",
        "masters",
        "--values",
        values,
    ]
    command += ["--set", "storage=/runs"]
    environment = {"PATH": str(TOOLS), "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:  # somebody has built the dependency in this checkout
        assert [item["kind"] for item in yaml.safe_load_all(done.stdout)] == ["RayJob"]
    else:
        assert "helm dependency build" in done.stderr


def test_objects_are_made_in_the_namespace_that_is_named(rendered):
    for namespace, wanted in (("team", "team"), ("", None)):
        made = manifests(rendered("minimal").cluster, "", "mine", "true", Limits(), namespace=namespace)
        assert [one["metadata"].get("namespace") for one in made] == [wanted]
