"""Nodes by group, what was taken away, and what they cost."""

from types import SimpleNamespace

import pytest

from masters.nodes import NodeLife, _life, cost_line, nodes_line, parse_prices

LIVES = [
    NodeLife("head", alive=True, taken=False, hours=2),
    NodeLife("generate", alive=True, taken=False, hours=1),
    NodeLife("generate", alive=False, taken=True, hours=0.5),
    NodeLife("generate", alive=False, taken=False, hours=0.5),
    NodeLife("train", alive=False, taken=False, hours=1),
]


def node(**fields):
    given = {
        "is_head_node": False, "labels": {"ray.io/node-group": "generate"}, "state": "DEAD", "state_message": None,
        "start_time_ms": 1_000, "end_time_ms": 1_801_000,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **fields})


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        ("Terminated due to preemption: SIGTERM", True),
        ("Unexpected termination: health check failed", True),
        ("Terminated due to idle (no Ray activity): idle for 15 s", False),
        ("Expected termination: received SIGTERM", False),
        (None, False),
    ],
)
def test_what_counts_as_taken_away(message, taken):
    assert _life(node(state_message=message), 9e9) == NodeLife("generate", alive=False, taken=taken, hours=0.5)


def test_a_living_node_counts_until_now():
    alive = _life(node(state="ALIVE", end_time_ms=0), now=3_601_000)
    assert alive == NodeLife("generate", alive=True, taken=False, hours=1.0)
    assert _life(node(is_head_node=True, state="ALIVE"), now=3_601_000).group == "head"
    assert _life(node(labels={}, state="ALIVE"), now=3_601_000).group == "others"


def test_groups_in_one_line():
    assert nodes_line(LIVES) == "generate 1 up, 1 preempted, 1 gone   head 1 up   train 0 up, 1 gone"


def test_cost_by_group_and_what_has_no_price():
    said = cost_line(LIVES, {"generate": 0.5, "train": 20.0, "judge": 1.0})
    assert said == "$21.00 so far: generate 1.00 (2.0 h), train 20.00 (1.0 h)   no price: head   no node yet: judge"


def test_prices_are_read():
    assert parse_prices(["generate=0.71", "head=0"]) == {"generate": 0.71, "head": 0.0}


@pytest.mark.parametrize("text", ["generate", "=1", "generate=-1", "generate=much", "generate=inf", "generate=nan"])
def test_a_price_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"--price .*: must be GROUP=DOLLARS_PER_HOUR"):
        parse_prices([text])
