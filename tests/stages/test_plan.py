"""`masters plan --from` against what really happens: a finished run predicts itself, and the demo."""

import json
import time

import pytest

from masters.data.manifests import read_manifest
from masters.data.storage import Storage
from masters.pipeline import NAMES
from tests.stages.conftest import masters

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.filterwarnings("default")]


def planned(recipe, *options):
    """Seconds by stage."""
    plan = json.loads(masters("plan", recipe, "--json", *options).stdout)
    return {stage["stage"]: stage["seconds"] for stage in plan["stages"]}


def took(run):
    return {name: read_manifest(run, name).seconds for name in NAMES}


def test_a_run_predicts_itself(finished):
    plan, real = planned(finished.recipe, "--from", finished.run.uri), took(finished.run)
    for stage, seconds in real.items():
        assert plan[stage] == pytest.approx(seconds, rel=0.15, abs=2), stage


def test_a_run_predicts_the_demo_within_a_factor_of_one_and_a_half(finished, tmp_path):
    """Fifty times as many questions, other shards, steps and levels."""
    recipe, storage = "recipes/tiny.yaml", f"storage={tmp_path}"
    plan = sum(planned(recipe, "--set", storage, "--from", finished.run.uri).values())
    began = time.monotonic()
    masters("run", recipe, "--set", storage, seconds=1200)
    real = sum(took(Storage(str(tmp_path / "tiny"))).values())
    assert real <= time.monotonic() - began
    assert 1 / 1.5 < plan / real < 1.5, (plan, real)
