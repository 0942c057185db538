"""What a step's row says over all ranks, from batches and laps of the clock that are small enough to work out by hand."""

import json
import math
import pickle

import pytest
import torch

from masters.algo.terms import Responses
from masters.data.metrics import MEASURED, computed, scalars
from masters.models.packing import Branch, Row, pack_rows
from masters.training.batches import MicroBatch
from masters.training.clock import PARTS
from masters.training.groups import Response
from masters.training.metrics import StepMetrics


def batch(prompt, *responses, dropped=0):
    """A row of a prompt and responses of so many tokens."""
    rows = [Row(torch.arange(prompt), torch.arange(prompt).expand(3, -1), [Branch([7] * n) for n in responses])]
    packed = pack_rows(rows)
    keys = [("a", Response("t", number, [7] * n, 1)) for number, n in enumerate(responses)]
    found = Responses(packed.target_T, packed.branch_T, torch.zeros(len(keys)).long(), torch.ones(len(keys)))
    return MicroBatch(packed, {}, found if keys else None, keys, dropped)


def rank(batches, memory=1.0, **seconds):
    metrics = StepMetrics()
    for made in batches:
        metrics.count(made)
    metrics.cost({**dict.fromkeys(PARTS, 0.0), "step": 10.0, **seconds}, memory)
    return metrics


def row(*ranks):
    """The step's row; every rank finds the same, but for when it ended."""
    everyone = [metrics._found for metrics in ranks]
    rows = [metrics.reduce(lambda found: everyone) for metrics in ranks]
    assert all(computed([found]) == computed(rows[:1]) for found in rows)
    return rows[0]


LONG, SHORT, BLANK = batch(10, 20, 30), batch(10, 5, 5, dropped=2), batch(20)  # 60, 20 and 20 tokens

COSTS = {
    "one rank": ([[LONG, SHORT]], {"n_tokens": 80, "n_trained_tokens": 60, "useful_share": 0.75, "time_ranks": 0.0}),
    "a blank row is computed and trains nothing": (
        [[LONG], [BLANK]], {"n_tokens": 80, "n_trained_tokens": 50, "useful_share": 50 / 80, "n_responses": 2},
    ),
    "dropped responses": ([[LONG], [SHORT]], {"n_dropped": 2, "n_responses": 4, "dropped_share": 2 / 6}),
    "nothing but blank rows": ([[BLANK], [BLANK]], {"n_responses": 0, "dropped_share": 0.0, "useful_share": 0.0}),
    "tokens of all ranks over one step": ([[LONG], [SHORT]], {"tokens_per_second": 80 / 10}),
    # Ranks have 60 and 20 tokens: on average they wait for (0 + 40) / 2 of 60.
    "one pass": ([[LONG], [SHORT]], {"time_ranks": (3 + 6 + 1) / 3}),
    # Together the passes are balanced, so the frozen models, that take them as one, wait for nobody; each pass is not.
    "passes that balance each other": ([[LONG, SHORT], [SHORT, LONG]], {"time_ranks": (6 + 1) / 3}),
    "passes that do not": ([[LONG, LONG], [SHORT, SHORT]], {"time_ranks": (3 + 6 + 1) / 3}),
    "three ranks": ([[LONG], [SHORT], [SHORT]], {"time_ranks": (3 + 6 + 1) * 80 / 180}),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTS)
def test_what_a_step_cost(name):
    ranks, expected = COSTS[name]
    found = row(*(rank(batches, frozen=3.0, student=6.0, objective=1.0) for batches in ranks))
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_parts_are_means_but_all_wait_for_the_last_data_and_the_largest_memory_counts():
    found = row(
        rank([LONG], 1.5, step=10.0, data=1.0, student=4.0, optimiser=1.0),
        rank([LONG], 0.5, step=10.5, data=3.0, student=2.0, optimiser=1.0),
    )
    assert found["time_data"] == 3.0
    assert (found["time_student"], found["time_optimiser"], found["time_saving"]) == (3.0, 1.0, 0.0)
    assert (found["time_step"], found["peak_memory_gib"]) == (10.5, 1.5)
    assert found["tokens_per_second"] == 120 / 10.5


def test_sums_means_and_norms_over_ranks():
    ranks = [rank([LONG]), rank([LONG])]
    for metrics, value, count in zip(ranks, (1.0, 4.0), (1, 2), strict=True):
        metrics._found.sums |= {
            "loss_kl": value,
            "squared_gradient_kl": 8 * value * value,
            "sum divergence": value,
            "count divergence": count,
        }
    found = row(*ranks)
    assert found["loss_kl"] == 2.5
    assert found["gradient_norm_kl"] == pytest.approx((8 * 17) ** 0.5 / 2)
    assert (found["divergence"], found["n_divergence"]) == (5 / 3, 3)


def test_what_was_measured_is_left_out_where_runs_are_compared_and_nothing_else():
    fast = row(rank([LONG], 1.0, step=1.0), rank([SHORT], 1.0, step=1.0))
    slow = row(*(rank([made], 2.0, **dict.fromkeys((*PARTS, "step"), 7.0)) for made in (LONG, SHORT)))
    different = {name for name in fast if fast[name] != slow[name]}
    assert {f"time_{part}" for part in (*PARTS, "step", "ranks")} <= different
    assert {"tokens_per_second", "peak_memory_gib"} <= different
    assert computed([fast]) == computed([slow])
    left = set(computed([fast])[0])
    assert left == {name for name in fast if not name.startswith(MEASURED)}
    assert {"n_tokens", "useful_share", "dropped_share", "n_responses"} <= left
    last_bit = math.nextafter(fast["useful_share"], 1)
    assert computed([fast]) != computed([{**fast, "useful_share": last_bit}])


def test_found_goes_from_rank_to_rank():
    found = rank([LONG, BLANK])._found
    assert pickle.loads(pickle.dumps(found)) == found


def test_numbers_of_a_row_have_names_that_group_them():
    told = {"step": 3, "level": "big@r0.20", "time_unix": 1.7e9, "lr": 1e-6, "loss_kl": 0.5, "gradient_norm": 2.0,
            "gradient_norm_kl": 1.0, "n_tokens": 80, "log_probability_right": -1.0, "time_step": 2.0, "divergence": 0.1}  # fmt: skip
    assert scalars(json.loads(json.dumps(told))) == {
        "train/lr": 1e-6, "loss/kl": 0.5, "gradient_norm/all": 2.0, "gradient_norm/kl": 1.0, "n/tokens": 80.0,
        "log_probability/right": -1.0, "time/step": 2.0, "divergence/all": 0.1,
    }  # fmt: skip
