"""The tiny recipe whole, by the line that k8s/README.md gives; after the others, since it takes longest (`make test-all`)."""

import re
import shlex

import pytest

from tests.k8s.cluster.recipes import write_recipe
from tests.k8s.cluster.steps import HERE, assert_same, finish, install, uninstall
from tests.k8s.tools import ROOT
from tests.stages.conftest import masters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def documented():
    """The arguments of `masters submit recipes/tiny.yaml`, from `--set` on."""
    text = (ROOT / "k8s" / "README.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^masters submit recipes/tiny\.yaml.*", text, re.MULTILINE)
    return shlex.split(line[line.index("--set") :])


def test_the_whole_tiny_recipe_equals_the_one_on_one_machine(lab, tmp_path):
    masters("run", write_recipe(tmp_path / "tiny.yaml", storage=tmp_path, models=ROOT), seconds=900)
    install(lab)
    recipe = ROOT / "recipes" / "tiny.yaml"
    printed = finish(lab.laptop("masters", "submit", recipe, *documented(), *HERE), 2000)
    assert "SUCCEEDED" in printed
    assert_same(lab.runs / "tiny", tmp_path / "tiny")
    uninstall(lab)
