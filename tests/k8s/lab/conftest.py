"""A control plane for the tests of this folder, with KubeRay's resource definitions."""

import os
import shutil

import pytest

from tests.k8s import chart as charts
from tests.k8s.lab.controlplane import control_plane, missing, until
from tests.k8s.render.strict import CRDS


@pytest.fixture(scope="session")
def chart(tmp_path_factory):
    return charts.vendored(tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    lacking = missing()
    if lacking:
        pytest.skip(f"{', '.join(lacking)}: neither on PATH nor in .build/tools; `make lab-tools` builds them with Go")
    if os.geteuid() or shutil.which("ip") is None or shutil.which("openssl") is None:
        pytest.skip("a network namespace needs root, `ip` and `openssl`")
    if not CRDS.is_dir():
        pytest.skip("the CRDs of KubeRay are neither beside the repository nor at MASTERS_CRDS")
    with control_plane(tmp_path_factory.mktemp("lab")) as running:
        for file in sorted(CRDS.glob("*.yaml")):
            running.kubectl("apply", "--server-side", "--filename", file)
        for kind in ("rayclusters", "rayjobs"):
            until(lambda kind=kind: running.get(kind), 60)  # served a moment after the definition is taken
        yield running
