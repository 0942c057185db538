"""Three SIGKILLs at random moments, on a cluster of two local nodes; `make chaos` has more of them."""

import pytest

from masters.data.storage import Storage
from tests.stages.chaos import Chaos, compare
from tests.stages.data import begun

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


def test_tables_are_those_of_the_undisturbed_run_whatever_was_killed(finished, tmp_path):
    run = begun(finished.run, tmp_path / "runs")
    chaos = Chaos(finished.recipe, tmp_path / "runs", kills=3, seed=2)
    chaos.run()
    assert sorted(chaos.killed) == ["actor", "driver", "raylet"]
    assert compare(run, Storage(finished.run.uri)) == []
