"""What packing is for: CPU time, as a ratio measured side by side."""

import statistics

import pytest
import torch

from perf.packing import make_models, ratios, seconds

pytestmark = pytest.mark.engine


def test_a_shared_prefix_is_much_faster_than_one_row_per_response(record_property):
    """An image of 256 tokens and 8 answers of 64; what is computed is compared on the way."""
    torch.set_num_threads(1)
    spent = seconds(make_models(), side=16, length=64, rounds=3)
    for slow in ("row per response, library", "row per response"):
        found = statistics.median(ratios(spent, slow))
        record_property(slow, found)
        assert found >= 3.5, (slow, spent)
