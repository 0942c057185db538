"""What the score stage decides before any judge, and what it hands to one."""

import pytest

from masters.config.score import RuleJudge, ScoreConfig
from masters.data.shards import Shard
from masters.stages.score import judge_identity, parts
from masters.stages.score_task import ScoreTask
from masters.stages.shard_worker import Ready
from masters.stages.verdict_tables import _take_apart
from tests import loopback
from tests.loopback import honest, served
from tests.stages import judged

LONG = "New York, " * 12
SHAPES = ["circle", "red square"]


ENDPOINT = {"type": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "m"}


def verdicts(text, answers, answer_type="text", options=None, author="student", **fields):
    config = ScoreConfig(judge=RuleJudge(type="rule"), **fields)
    sample = {"sample_id": "a/1", "question": "?", "answers": answers, "answer_type": answer_type, "options": options}
    shard = Shard(author, "0", "train", 0, 1)
    rows = [{**sample, "responses": [{"author": author, "index": 0, "text": text}]}]
    (row,) = ScoreTask(config, 100, 0).compute(shard, rows, Ready()).to_pylist()
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


def judge_together(folder, script, starts, **score):
    """Units of eight questions judged in that order, without Ray; the run and its verdicts by file."""
    with served(script) as server:
        recipe = judged.config(folder, {**ENDPOINT, "base_url": server.url}, score=score)
        run, sources = judged.write_run(recipe), tuple(judged.shards(recipe))
        task = ScoreTask(recipe.score, 1024, 0, sources)
        for start in starts:
            unit = Shard("endpoint", "0.00", "train", start, min(start + 8, 30))
            run.add_table(unit.file(task.folder), task.compute(unit, task.rows(run, unit), Ready()))
    units = [(name, *map(int, name[-25:-8].split("-"))) for name in run.names("judged", ".parquet")]
    for shard in sources:
        held = [name for name, start, stop in units if start < shard.stop and shard.start < stop]
        _take_apart({"file": shard.file(""), "author": shard.author, "judged": held}, run)
    assert all({row["author"] for row in table} <= {name.split("/")[1]} for name, table in judged.tables(run).items())
    return server, {name: run.read(name) for name in run.names("verdicts")}, judged.rows(run)


def test_equal_responses_of_all_authors_are_judged_once_whatever_the_order_of_the_work(tmp_path):
    server, files, rows = judge_together(tmp_path / "a", honest, (0, 8, 16, 24))
    _, again, _ = judge_together(tmp_path / "b", honest, (24, 8, 0, 16))
    assert files == again
    by = {who: [row for row in rows if row["judge"] == who] for who in ("endpoint", "endpoint (equal)", "match")}
    asked = {(row["sample_id"], judged.text(row)) for row in rows if row["judge"].startswith("endpoint")}
    assert len(by["endpoint"]) == len(asked) <= len(server.seen) / 2
    assert by["endpoint (equal)"]
    assert not by["match"]
    said = {(row["sample_id"], judged.text(row)): (row["verdict"], row["explanation"]) for row in by["endpoint"]}
    assert all(
        said[row["sample_id"], judged.text(row)] == (row["verdict"], row["explanation"])
        for row in by["endpoint (equal)"]
    )
    assert {row["author"] for row in by["endpoint (equal)"]} > {"student"} or by["endpoint (equal)"][0][
        "author"
    ] == "student"
    first_authors = {row["author"] for row in by["endpoint"]}
    assert any(author.startswith("big@") for author in first_authors)


def test_a_match_needs_no_judge_and_is_told_apart(tmp_path):
    server, _, rows = judge_together(tmp_path, honest, (0, 8, 16, 24), match_first=True)
    assert {judged.text(row) for row in rows if row["judge"] == "match"} == {"red", "Red."}
    assert {row["verdict"] for row in rows if row["judge"] == "match"} == {1}
    prompts = [loopback.user_text(body) for body in server.seen]
    assert not [prompt for prompt in prompts if "\nred\n</generated" in prompt or "\nRed.\n</generated" in prompt]


def test_a_sample_that_was_rejected_has_no_verdicts(tmp_path):
    _, files, rows = judge_together(tmp_path, honest, (0, 16, 24))
    assert len(files) == len(judged.shards(judged.config(tmp_path, ENDPOINT)))
    assert {int(row["sample_id"][2:]) for row in rows} == {*range(8), *range(16, 30)}


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"judge": {"requests_per_minute": 9, "max_concurrency": 3, "timeout_seconds": 5, "key_env": "KEY", "prompt_price": 1.0}}, False),
        ({"cache": "s3://bucket/verdicts"}, False),
        ({"numeric_tolerance": 0.2}, False),
        ({"match_first": True}, True),
        ({"judge": {"second_prompt": "unclear"}}, True),
        ({"judge": {"model": "other"}}, True),
        ({"judge": {"attempts": 1}}, True),
    ],
)  # fmt: skip
def test_what_the_digest_of_verdicts_depends_on(tmp_path, fields, changes):
    before = judged.config(tmp_path, ENDPOINT)
    after = judged.config(tmp_path, {**ENDPOINT, **fields.pop("judge", {})}, score=fields)
    assert (parts(before) != parts(after)) is changes


def test_a_rules_digest_is_what_it_was_before_there_were_other_judges(tmp_path):
    score = parts(judged.config(tmp_path, {"type": "rule"}, score={"match_first": True, "cache": "/x"}))["score"]
    assert score == {"judge": {"type": "rule"}, "numeric_tolerance": 0.05, "repetition_min_words": 20}


def test_who_judges_is_the_model_its_settings_and_our_prompts_and_not_the_seed(tmp_path, monkeypatch):
    mine = judged.config(tmp_path, ENDPOINT)
    assert judge_identity(mine, 0) == judge_identity(judged.config(tmp_path, ENDPOINT, seed=7), 0)
    assert judge_identity(mine, 0) != judge_identity(judged.config(tmp_path, {**ENDPOINT, "max_tokens": 64}), 0)
