"""A simulated engine: rows in `poison` raise, rows in `deadly` kill without a word, and kills may come from outside."""

import json
import random

import pytest

from masters.data.trials import DEATHS_ALONE, Trial


def run(rows, poison=(), deadly=(), kills=0, most=500):
    """Attempts until the shard is done: the trial at the end and the number of attempts. State goes through JSON each time."""
    rng, trial = random.Random(0), Trial()
    for attempt in range(most):
        trial = Trial.from_json(json.loads(json.dumps(trial.to_json()))).start(rows)
        if kills and rng.random() < 0.5:
            kills -= 1
            continue
        if set(trial.running) & set(deadly):
            continue
        if set(trial.running) & set(poison):
            trial = trial.failed("CUDA error")
            continue
        probe, trial = trial.is_probe, trial.passed()
        if not probe:
            return trial, attempt + 1
    raise AssertionError("no end")


def test_a_good_shard_runs_once():
    trial, attempts = run(range(64))
    assert attempts == 1
    assert trial == Trial()


@pytest.mark.parametrize("poison", [{0}, {63}, {17}, {3, 4}, {0, 31, 32, 63}, set(range(8))])
def test_rows_that_raise_are_found_and_no_other_row_is_rejected(poison):
    trial, attempts = run(range(64), poison=poison)
    assert set(trial.excluded) == poison
    assert set(trial.excluded.values()) == {"CUDA error"}
    assert attempts <= 2 + 2 * 7 * len(poison)


def test_one_poisoned_row_among_many_costs_few_restarts():
    _, attempts = run(range(1024), poison={500})
    assert attempts <= 25


@pytest.mark.parametrize("kills", [1, 2, 10, 60])
def test_kills_are_held_against_nobody(kills):
    trial, _ = run(range(64), kills=kills)
    assert trial.excluded == {}


def test_kills_while_looking_for_a_poisoned_row():
    trial, _ = run(range(64), poison={40}, kills=30)
    assert set(trial.excluded) == {40}


def test_a_row_that_kills_without_an_error_is_rejected_after_it_died_alone_five_times():
    trial, _ = run(range(16), deadly={5})
    assert set(trial.excluded) == {5}
    assert "died 5 times on this row alone" in trial.excluded[5]


def test_four_deaths_alone_reject_nobody():
    trial = Trial(probes=((7,),), bisected=True)
    for _ in range(DEATHS_ALONE - 1):
        trial = trial.start(range(8))
    assert trial.start(range(8)).excluded == {}
    assert set(trial.start(range(8)).start(range(8)).excluded) == {7}


def test_rows_that_fail_only_together_are_an_error():
    trial = Trial().start(range(4)).failed("out of memory")
    for _ in range(2):
        trial = trial.start(range(4)).passed()
    with pytest.raises(ValueError, match=r"fail together and not alone \(out of memory\); lower"):
        trial.start(range(4)).failed("out of memory")


def test_an_engine_that_fails_on_every_row_is_no_rows_fault():
    with pytest.raises(ValueError, match="more than 8 rows of one shard fail, the last with CUDA error"):
        run(range(64), poison=set(range(64)))
