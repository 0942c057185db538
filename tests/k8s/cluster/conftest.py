"""The lab with the chart installed, and undisturbed runs of the recipes on this machine to compare with."""

import os
import shutil
from pathlib import Path

import pytest

from tests.k8s.cluster import lab as labs
from tests.k8s.cluster.recipes import cut, write_recipe
from tests.k8s.cluster.steps import NAMESPACE
from tests.k8s.lab import controlplane, image, nodes
from tests.k8s.render.strict import CRDS
from tests.k8s.tools import ROOT
from tests.stages.conftest import masters


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    if controlplane.given(folder) is None:
        skip_where_no_nodes_can_be_made()
    with labs.running(folder) as running:
        running.prepare(NAMESPACE)
        yield running


def skip_where_no_nodes_can_be_made():
    lacking = [*controlplane.missing(), *nodes.missing()]
    if lacking:
        pytest.skip(f"{', '.join(lacking)}: not there; `make node-tools` builds or names them")
    if any(Path(place).is_relative_to("/tmp") for place in image.mounted()):
        pytest.skip("pods have a /tmp of their own, and would not see this repository below it: clone it elsewhere")
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("nodes need root and `unshare`")
    if not CRDS.is_dir():
        pytest.skip("the CRDs of KubeRay are neither beside the repository nor at MASTERS_CRDS")


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The run directory of an undisturbed `masters run` on this machine."""
    folder = tmp_path_factory.mktemp("reference")
    masters("run", write_recipe(folder / "small.yaml", cut, storage=folder, models=ROOT), PYTHONPATH=str(ROOT))
    return folder / "small"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """The same for the cluster: stages go to their groups by label."""
    return write_recipe(tmp_path_factory.mktemp("recipe") / "small.yaml", cut, labels=True)
