"""The dry-run estimate, by hand."""

import pytest

from masters.judging.estimate import estimate, judge_cost
from tests.stages import judged

JUDGE = {"type": "endpoint", "base_url": "http://h/v1", "model": "m", "max_tokens": 100}


@pytest.mark.parametrize(
    ("fields", "judge", "responses", "requests", "answers"),
    [
        ({}, {}, 10 * 4, 80, 40 * 116),
        ({}, {"second_prompt": "unclear"}, 40, 40, 40 * 100),
        ({"generate": {"mix": {"teacher": 2, "student": 2}, "coverage": "all"}}, {}, 10 * (2 * 3 + 2), 160, 80 * 116),
        ({"generate": {"mix": {"teacher": 0, "student": 0, "label": 1}}}, {}, 0, 0, 0),
    ],
)
def test_requests_and_tokens(tmp_path, fields, judge, responses, requests, answers):
    found = estimate(judged.config(tmp_path, {**JUDGE, **judge}, **fields), 10, 20, 30)
    assert (found.responses, found.requests, found.answer_tokens) == (responses, requests, answers)
    assert found.prompt_tokens >= responses * (20 + 30)


def test_longer_responses_cost_what_they_are_longer(tmp_path):
    config = judged.config(tmp_path, JUDGE)
    assert estimate(config, 10, 20, 130).prompt_tokens - estimate(config, 10, 20, 30).prompt_tokens == 40 * 100


def test_what_check_says_with_limits_and_prices_and_from_the_samples_of_the_run(tmp_path):
    judge = {**JUDGE, "requests_per_minute": 40, "prompt_price": 1e6, "answer_price": 0.0}
    config = judged.config(tmp_path, judge)
    (line,) = judge_cost(config)
    assert "for 1,000 questions: 4,000 responses, at most 8,000 requests" in line
    assert "3.3 hours at its limits" in line
    found = estimate(config, 1000, 60, config.generate.max_tokens)
    assert f"price {found.prompt_tokens:,.2f}" in line
    run = judged.write_run(config)
    manifest = run.read_json("manifests/prepare.json")
    run.write_json("manifests/prepare.json", {**manifest, "status": "done"})
    (line,) = judge_cost(config)
    assert "for the 30 questions of the run: 120 responses, at most 240 requests" in line
    assert list(judge_cost(judged.config(tmp_path, {"type": "rule"}))) == []
