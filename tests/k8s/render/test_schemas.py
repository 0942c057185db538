"""Every scenario is accepted by Helm's linter and by the schemas of what it creates."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.k8s import chart as charts
from tests.k8s.render import strict
from tests.k8s.render.strict import needs_crds

KINDS = yaml.safe_load((Path(__file__).parent / "kinds.yaml").read_text())


def test_each_cloud_and_each_option_has_a_scenario():
    names = {file.stem for file in charts.SCENARIOS}
    assert names >= {"gke", "eks", "karpenter", "aks", "lab", "minimal", "kueue", "no-operator", "gcs-ft", "s3", "gcs"}
    assert names >= {"gke-h100", "eks-efa", "karpenter-pools", "aks-infiniband", "on-prem-proxy"}


@pytest.mark.parametrize("file", charts.SCENARIOS, ids=lambda file: file.stem)
def test_lint_is_silent(chart, file):
    charts.helm("lint", "--strict", chart, "--values", file)


@needs_crds
def test_the_cluster_is_what_its_crd_says(scenario):
    assert strict.problems("RayCluster", scenario.cluster) == []


@needs_crds
def test_the_pods_of_the_helm_test_and_of_a_prefetch_are_pods(scenario):
    (pod,) = scenario.of("Pod")
    assert strict.problems("Pod", pod) == []
    for kind in ("Job", "DaemonSet"):
        for one in scenario.of(kind):
            assert strict.problems("Pod", one["spec"]["template"]) == []


def test_other_objects_use_known_fields_only(scenario):
    for one in scenario.objects:
        if one["kind"] not in ("RayCluster", "Pod"):
            known = KINDS[one["kind"]]
            fields = {"apiVersion": {"const": known["apiVersion"]}, "kind": {}, "metadata": {"type": "object"}}
            schema = {"properties": fields | known["fields"], "additionalProperties": False, "$defs": KINDS["$defs"]}
            jsonschema.validate(one, schema)


@needs_crds
def test_the_api_server_fills_nothing_into_the_groups(scenario):
    """It holds the list of groups as one value: what it filled in would be a difference, and a conflict on upgrade."""
    schema = strict.crd("RayCluster")["properties"]["spec"]["properties"]["workerGroupSpecs"]
    assert list(strict.missing_defaults(schema, scenario.cluster["spec"]["workerGroupSpecs"])) == []


@needs_crds
def test_the_strict_reading_finds_a_typo(rendered):
    typo = yaml.safe_load(yaml.safe_dump(rendered().cluster))
    typo["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    typo["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Never"
    found = "\n".join(strict.problems("RayCluster", typo))
    assert "maxReplica" in found
    assert "imagePullPolice" in found
