"""The chart as the tests use it: a copy with a stand-in for the operator's chart, which no registry here serves."""

import shutil
import subprocess
from pathlib import Path

import yaml

from tests.k8s.tools import ROOT, find

CHART = ROOT / "k8s" / "chart"
SCENARIOS = sorted(CHART.glob("ci/*.yaml"))


class HelmError(Exception):
    """Helm would not render; the text is what it printed."""


def vendored(folder: Path) -> Path:
    """A copy of the chart in `folder`, with an empty kuberay-operator in charts/: Helm wants it there even when it is off."""
    copy = shutil.copytree(CHART, folder / "chart")
    stub = copy / "charts" / "kuberay-operator"
    stub.mkdir(parents=True)
    (dependency,) = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]
    meta = {"apiVersion": "v2", "name": dependency["name"], "version": dependency["version"]}
    (stub / "Chart.yaml").write_text(yaml.safe_dump(meta))
    return copy


def helm(*arguments: object) -> str:
    """What helm prints; HelmError with its message where it fails."""
    tool = find("helm")
    assert tool is not None
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def objects(text: str) -> list[dict]:
    """The objects of a rendered chart."""
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]


def template(chart: Path, *options: object, release: str = "lab", namespace: str = "masters") -> list[dict]:
    """`helm template` -> objects."""
    return objects(helm("template", release, chart, "--namespace", namespace, *options))
