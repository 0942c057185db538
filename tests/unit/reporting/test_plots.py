"""Lines of the training plot: what is smoothed is a mean, and no number of steps makes the page large."""

import math
import time

import numpy as np
import pytest

from masters.reporting import plots

CASES = {
    "a few": [1.0, 2.0, 3.0, 4.0],
    "zeros and gaps": [0.0, 0.0, math.nan, 5.0, 1e-9, 7.0] * 30,
    "one step": [2.0],
    "nothing": [0.0] * 50,
    "a spike": [1.0] * 100 + [1e9] + [1.0] * 100,
}


def plain(values):
    reach, result = max(1, len(values) // 40), []
    for place in range(len(values)):
        window = [v for v in values[max(0, place - reach) : place + reach + 1] if v == v and abs(v) > 1e-8]
        result.append(sum(window) / len(window) if window else math.nan)
    return result


@pytest.mark.parametrize("name", CASES)
def test_running_means(name):
    np.testing.assert_allclose(plots._smooth(CASES[name]), plain(CASES[name]), rtol=1e-6)


def test_an_infinite_gradient_hides_no_other():
    assert np.isfinite(plots._smooth([1.0] * 60 + [math.inf] + [1.0] * 60)).all()


def rows(steps):
    rng = np.random.default_rng(0)
    return [
        {"step": i, "divergence": v, "kl_nats": v / 2, "time_frozen": v, "loss_sft": v}
        for i, v in enumerate(rng.random(steps))
    ]


def test_many_steps_are_drawn_in_the_time_and_size_of_a_thousand():
    began = time.process_time()
    drawn = plots.training(rows(25_000), [0.1] * 25_000)
    assert time.process_time() - began < 5  # a mean of every window by itself: 30 s
    few = plots.training(rows(1_000), [0.1] * 1_000)
    assert len(drawn) < 1.5 * len(few)
