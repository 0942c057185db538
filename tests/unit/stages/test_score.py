"""What the score stage decides before any judge, and what it hands to one."""

import pytest

from masters.config.score import RuleJudge, ScoreConfig
from masters.data.shards import Shard
from masters.stages.score import ScoreTask

LONG = "New York, " * 12
SHAPES = ["circle", "red square"]


def verdicts(text, answers, answer_type="text", options=None, author="student", **fields):
    config = ScoreConfig(judge=RuleJudge(type="rule"), **fields)
    sample = {"sample_id": "a/1", "question": "?", "answers": answers, "answer_type": answer_type, "options": options}
    shard = Shard(author, "0", "train", 0, 1)
    rows = [{**sample, "responses": [{"author": author, "index": 0, "text": text}]}]
    (row,) = ScoreTask(config, 100, 0).compute(None, shard, rows, None, None).to_pylist()
    return row["verdict"], row["judge"]


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("red", ["red"], (1, "rule")),
        ("blue", ["red"], (0, "rule")),
        (" ", ["red"], (0, "empty")),
        ("A, A, A", ["A, A, A"], (1, "rule")),
        ("red red red", ["red"], (0, "rule")),
        (LONG, ["Boston"], (0, "repetition")),
        (LONG, [LONG.strip()], (1, "match")),
    ],
)
def test_rules_come_before_the_judge_and_a_match_before_the_rule_on_repetition(text, answers, expected):
    assert verdicts(text, answers) == expected


def test_what_is_long_is_config():
    assert verdicts("red red red", ["red"], repetition_min_words=3) == (0, "repetition")


def test_labels_are_right():
    assert verdicts("anything", ["red"], author="label") == (1, "label")


@pytest.mark.parametrize(
    ("text", "right"), [("B", 1), ("The answer is B.", 1), ("It is a red square", 1), ("A", 0), ("b", 0)]
)
def test_the_judge_is_given_the_options(text, right):
    assert verdicts(text, ["B"], "choice", SHAPES) == (right, "rule")


def test_a_match_that_repeats_itself_is_exact():
    said = "100 " * 24
    assert verdicts(said, [said], "number") == (1, "match")
    assert verdicts(said, ["100"], "number") == (0, "repetition")
