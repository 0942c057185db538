"""A control plane for the tests of this folder, and KubeRay's operator; or the cluster that is given."""

import os
import shutil

import pytest

from tests.k8s import chart as charts
from tests.k8s.lab import kuberay
from tests.k8s.lab.controlplane import control_plane, given, missing, running
from tests.k8s.render.strict import CRDS


@pytest.fixture(scope="session")
def chart(tmp_path_factory):
    return charts.vendored(tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    if known := given(folder):
        yield known
        return
    lacking = missing()
    if lacking:
        pytest.skip(f"{', '.join(lacking)}: neither on PATH nor in .build/tools; `make lab-tools` builds them with Go")
    if os.geteuid() or shutil.which("ip") is None or shutil.which("openssl") is None:
        pytest.skip("a network namespace needs root, `ip` and `openssl`")
    if not CRDS.is_dir():
        pytest.skip("the CRDs of KubeRay are neither beside the repository nor at MASTERS_CRDS")
    with control_plane(folder) as own:
        kuberay.define(own)
        with running(own, "operator", kuberay.command(own), **kuberay.environment()):
            yield own
