"""The manifests in k8s/jobs are what the code renders today, and what KubeRay takes."""

import runpy

import yaml

from tests.k8s.render.strict import needs_crds, problems
from tests.k8s.tools import ROOT, TOOLS

JOBS = ROOT / "k8s" / "jobs"


def rendered(chart, monkeypatch):
    monkeypatch.setenv("PATH", str(TOOLS), prepend=":")
    return runpy.run_path(str(JOBS / "render.py"))["rendered"](chart)


def test_the_files_are_what_the_code_renders(chart, monkeypatch):
    made = rendered(chart, monkeypatch)
    assert {file.name for file in JOBS.glob("*.yaml")} == set(made)
    for name, text in made.items():
        assert (JOBS / name).read_text() == text, f"{name}: run k8s/jobs/render.py"


@needs_crds
def test_kuberays_schema_accepts_every_file():
    for file in JOBS.glob("*.yaml"):
        (job,) = yaml.safe_load_all(file.read_text())
        assert problems("RayJob", job) == [], file.name
        (head,) = (job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"],)
        (volume,) = (one for one in head["spec"]["volumes"] if "downwardAPI" in one)
        assert [one["path"] for one in volume["downwardAPI"]["items"]] == ["my-run.yaml"]
        assert "curriculum:" in head["metadata"]["annotations"]["masters/recipe"]
        assert f"ray_jobs.{file.stem} " in job["spec"]["entrypoint"]
