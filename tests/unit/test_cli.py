"""The command line, in the process of the test: messages and exit codes."""

import sys
from pathlib import Path

import pytest
import yaml

from masters.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def masters(monkeypatch, capsys):
    def masters(*arguments: object) -> tuple[int, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["masters", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return masters


def test_check_takes_several_values_files_and_the_last_wins(masters, tmp_path):
    values, over = tmp_path / "values.yaml", tmp_path / "over.yaml"
    values.write_text("workerGroups: {generate: null, train: null, judge: {maxReplicas: 1, cpus: 4}}")
    over.write_text("workerGroups: {judge: {cpus: 0.5}}\n")
    status, said = masters("check", "recipes/tiny.yaml", "--values", values)
    assert status == 0, said
    assert f"{values}: every stage fits on its groups: judge" in said
    status, said = masters("check", "recipes/tiny.yaml", "--values", values, "--values", over)
    assert status == 1
    assert 'recipes/tiny.yaml: resources.train.cpus = 1: stage train: group "judge" has 0.5 CPUs a pod.' in said


def test_submit_prints_a_manifest_that_holds_the_charts_cluster(masters, monkeypatch):
    from masters import rayjob

    pod = {"template": {"spec": {"containers": [{"name": "ray"}]}}}
    cluster = {"metadata": {"name": "r", "namespace": "ns"}, "spec": {"headGroupSpec": pod, "workerGroupSpecs": []}}
    asked = []
    monkeypatch.setattr(rayjob, "render_cluster", lambda *arguments: asked.append(arguments) or cluster)
    options = (
        "--manifest",
        "--stage",
        "mask",
        "-n",
        "ns",
        "--release",
        "r",
        "--values",
        "v.yaml",
        "--set",
        "storage=s3://b/runs",
    )
    status, said = masters("submit", "recipes/tiny.yaml", *options)
    assert status == 0, said
    assert asked == [("r", "ns", [Path("v.yaml")])]
    config_map, job = yaml.safe_load_all(said)
    assert job["metadata"]["name"] == "tiny-mask"
    assert job["spec"]["entrypoint"] == "python -m ray_jobs.mask /etc/masters/recipe/tiny.yaml storage=s3://b/runs"
    assert config_map["data"]["tiny.yaml"] == (ROOT / "recipes/tiny.yaml").read_text()


def test_submit_refuses_storage_that_would_end_with_the_pod(masters):
    status, said = masters("submit", "recipes/tiny.yaml", "--address", "http://127.0.0.1:9")
    assert status == 1
    assert "recipes/tiny.yaml: storage = runs: is relative" in said


def test_a_cluster_is_named_once(masters):
    options = ("--set", "storage=/r", "--address", "http://127.0.0.1:9", "--release", "x")
    status, said = masters("submit", "recipes/tiny.yaml", *options)
    assert status == 1
    assert "--address and --release name a cluster twice" in said
