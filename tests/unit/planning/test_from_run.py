"""Predictions from an earlier run: of itself nearly exact, of another size within a factor of 1.5."""

import json
from types import SimpleNamespace

import pytest

from masters.planning.calibration import Record, calibrate, record_of
from masters.planning.places import HERE, Place
from masters.planning.throughputs import CPU
from masters.planning.workload import Cost
from tests.unit.planning.runs import RECIPE, RUNS, write_run
from tests.unit.planning.test_plan import masters, numbers

PLACE = Place(HERE, CPU, 2, 0, 1, per_pod=2, room=2)


def seconds(name):
    return {stage: found["seconds"] for stage, found in RUNS[name]["stages"].items()}


def overrides(name):
    return [word for override in RUNS[name]["overrides"] for word in ("--set", override)]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_predicts_itself(tmp_path, name):
    run = write_run(tmp_path / "run", RECIPE, name)
    plan = numbers(RECIPE, *overrides(name), "--set", f"storage={tmp_path}/none", "--from", run)
    for stage in plan["stages"]:
        assert stage["seconds"] == pytest.approx(seconds(name)[stage["stage"]], rel=0.1, abs=1), stage["stage"]


@pytest.mark.parametrize(("source", "target"), [("small", "tiny"), ("tiny", "small")])
def test_a_run_predicts_another_within_a_factor_of_one_and_a_half(tmp_path, source, target):
    """Two runs that took place, 15 to 50 times apart in rows."""
    run = write_run(tmp_path / "run", RECIPE, source)
    plan = numbers(RECIPE, *overrides(target), "--set", f"storage={tmp_path}/none", "--from", run)
    real = seconds(target)
    assert 1 / 1.5 < plan["seconds"] / sum(real.values()) < 1.5
    for stage in plan["stages"]:
        assert 1 / 1.5 < stage["seconds"] / real[stage["stage"]] < 1.5, stage["stage"]


def cost(stage, work, start=0.0, **details):
    return Cost(stage, "", PLACE, 1, start=start, work=work, details=details)


TRAIN = cost("train", 105.0, 50.0, steps=100, step_seconds=1.0, computing=1.0, saves=5, saving=5.0)
CASES = {
    # planned, measured -> start, work of the same stage planned anew
    "work that is slower": (
        cost("generate", 10),
        {"busy_seconds": 30, "waiting_seconds": 8, "switching_seconds": 2},
        60,
        40,
        20,
    ),
    "work that nobody measured": (cost("prepare", 10), None, 60, 50, 10),
    "less time than was planned": (cost("prepare", 10), None, 4, 0, 4),
}


@pytest.mark.parametrize("what", CASES)
def test_start_and_work_are_told_apart(what):
    planned, use, took, start, work = CASES[what]
    engines = {planned.stage: {"teacher": {"engines": 2, **use}}} if use else {}
    found = calibrate([planned], Record({planned.stage: took}, engines)).applied(planned)
    assert (found.start, found.work) == pytest.approx((took - work, work) if use else (start, work))


def test_training_is_measured_step_by_step():
    found = calibrate([TRAIN], Record({"train": 260.0}, {}, step_seconds=200.0, saving_seconds=10.0)).applied(TRAIN)
    assert (found.start, found.work) == pytest.approx((50.0, 210.0))
    assert found.details["step_seconds"] == pytest.approx(2.0)
    assert found.details["saving"] == pytest.approx(10.0)


def test_what_was_borrowed_says_nothing_of_time():
    done = SimpleNamespace(seconds=9.0, counts={}, borrowed="")
    borrowed = SimpleNamespace(seconds=1.0, counts={}, borrowed="runs/other")
    assert record_of({"prepare": done, "generate": borrowed}, []).seconds == {"prepare": 9.0}


def test_a_run_of_another_version_is_said(tmp_path):
    run = write_run(tmp_path / "run", RECIPE)
    recipe = json.loads((run / "run.json").read_text())
    recipe["recipe"]["gone"] = 1
    (run / "run.json").write_text(json.dumps(recipe))
    status, said = masters("plan", RECIPE, "--from", run)
    assert status == 1
    assert "its recipe is of another version of Masters" in said
