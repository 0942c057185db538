"""What the operator's pods say about its patience, and what is said where nobody may look."""

import json
import stat
import sys

import pytest

from masters.cluster.kuberay import PATIENCE, impatience

KUBECTL = f"""#!{sys.executable}
import os, sys
here = os.path.dirname(__file__)
with open(here + "/calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if not os.path.exists(here + "/pods.json"):
    sys.exit('Error from server (Forbidden): pods is forbidden')
print(open(here + "/pods.json").read())
"""


@pytest.fixture
def look(tmp_path, monkeypatch):
    """look(image, value of the variable or None, values, namespace) -> what is said; and what kubectl was asked."""
    tool = tmp_path / "kubectl"
    tool.write_text(KUBECTL)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def run(image, value, values=None, namespace=""):
        env = [{"name": "OTHER", "value": "1"}] + ([{"name": PATIENCE, "value": value}] if value is not None else [])
        pods = {"items": [{"spec": {"containers": [{"image": image, "env": env}]}}] if image else []}
        (tmp_path / "pods.json").write_text(json.dumps(pods))
        return impatience(values or {}, namespace), (tmp_path / "calls").read_text()

    return run


@pytest.mark.parametrize(
    ("image", "value", "seconds"),
    [
        ("mirror/operator:v1.7.0", None, 300),
        ("mirror/operator:v1.7.0", "600", 600),
        ("mirror/operator:1.12.1", "nonsense", 300),
        ("mirror:5000/operator:nightly", None, 300),
        ("mirror/operator:v2.0.0", None, 300),
        ("mirror/operator:v1.7.0", "3600", None),
        ("mirror/operator:v1.6.2", None, None),
        ("", None, None),
    ],
)
def test_an_impatient_operator_is_named_with_the_remedy(look, image, value, seconds):
    said, _ = look(image, value)
    if seconds is None:
        assert said == ""
    else:
        assert f"({image})" in said
        assert f"away for {seconds} s" in said
        assert f"set {PATIENCE} to 3600" in said


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({"networkPolicy": {"operatorNamespace": "ray-system"}}, "ray-system"),
        ({"networkPolicy": {"operatorNamespace": "ray-system"}, "operator": {"enabled": True}}, "team"),
    ],
)
def test_it_is_looked_for_where_the_values_say(look, values, asked):
    _, calls = look("mirror/operator:v1.7.0", None, values, "team")
    assert f"--namespace {asked} " in calls or f"-n {asked} " in calls
    assert "app.kubernetes.io/component=kuberay-operator" in calls


def test_nothing_is_said_where_nobody_may_look(look, tmp_path):
    look("", None)
    (tmp_path / "pods.json").unlink()
    assert impatience({}) == ""


@pytest.mark.parametrize("files", [(), ("values.yaml",)])
def test_check_looks_where_it_asks_the_release(look, monkeypatch, files):
    """With values files there may be no cluster yet."""
    from masters.cli_check import cluster_lines
    from masters.cluster import release
    from masters.config.load import load_recipe
    from masters.config.placement import read_values
    from tests.k8s.tools import ROOT

    look("mirror/operator:v1.7.0", None)
    found = release.Installed(read_values(()), "release lab", files)
    monkeypatch.setattr(release, "find", lambda *_: found)
    config = load_recipe(ROOT / "recipes" / "tiny.yaml", ["storage=/runs"])
    said = [line for line in cluster_lines(config, "tiny", (), "lab", "team") if PATIENCE in line]
    assert len(said) == (0 if files else 1)
    assert all(line.startswith("release lab: the operator (mirror/operator:v1.7.0) ends a RayJob") for line in said)
