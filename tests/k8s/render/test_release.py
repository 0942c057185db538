"""What a release says: the notes, and the test that `helm test` runs."""

import ast

import pytest
import yaml

from tests.k8s import chart as charts


def notes(chart, *options) -> str:
    printed = charts.helm("install", "lab", chart, "--namespace", "team", "--dry-run=client", *options)
    return printed.split("\nNOTES:\n")[1]


def test_the_notes_have_the_real_names(chart):
    said = notes(chart, "--set", "auth.existingSecret=ray-token,storage.pvc.existingClaim=results")
    for line in (
        "kubectl -n team wait raycluster/lab ",
        "kubectl -n team port-forward svc/lab-head-svc 8265",
        "get secret ray-token ",
        "masters check RECIPE.yaml -n team --release lab",
        "masters submit RECIPE.yaml -n team --release lab",
        "python -m ray_jobs.pipeline",
        "helm test lab -n team",
        "on the claim results",
        "Helm never upgrades CRDs",
    ):
        assert line in said


def test_the_notes_tell_of_a_missing_operator(chart):
    assert "this cluster does not know RayCluster" in notes(chart)  # without a cluster, helm knows no custom resource


def test_the_helm_test_submits_with_the_token_of_the_secret(rendered):
    for name, secret in (("minimal", "lab"), ("no-operator", "ray-token")):
        (pod,) = rendered(name).of("Pod")
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        (container,) = pod["spec"]["containers"]
        env = {one["name"]: one for one in container["env"]}
        assert env["RAY_ADDRESS"]["value"] == "http://lab-head-svc:8265"
        assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "auth_token"}
        source = container["args"][0]
        assert "JobStatus.SUCCEEDED" in source
        ast.parse(source)


def test_claims_outlive_the_release(rendered):
    claims = rendered("karpenter", "--set", "storage.kind=pvc,storage.s3.region=").of("PersistentVolumeClaim")
    assert {one["metadata"]["name"] for one in claims} == {"lab-runs", "lab-models"}
    assert all(one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for one in claims)
    assert not rendered("no-operator").of("PersistentVolumeClaim")


def test_extra_objects_are_installed_and_strings_are_templates(rendered):
    found = {one["metadata"]["name"]: one["data"] for one in rendered("gcs").of("ConfigMap")}
    assert found == {"notes": {"of": "the team"}, "lab-notes": {"release": "lab"}}


def test_redis_is_named_by_secret_and_the_cluster_by_its_own_space(rendered):
    options = rendered("gcs-ft").cluster["spec"]["gcsFaultToleranceOptions"]
    assert options["redisPassword"] == {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}}
    assert options["externalStorageNamespace"] == "masters-lab"


@pytest.mark.parametrize("key", ["version", "appVersion"])
def test_the_chart_has_the_versions_of_the_project(key):
    import tomllib

    project = tomllib.loads((charts.ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((charts.CHART / "Chart.yaml").read_text())
    assert chart[key] == project["version"]
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    assert f"ray[default]=={values['rayVersion']}" in project["dependencies"]
