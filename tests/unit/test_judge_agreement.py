"""`masters judge-agreement`: another judge beside a run's verdicts; the run stays as it is."""

import json
import sys

import pytest

from masters.cli import main
from masters.stages.score_task import ScoreTask
from masters.stages.shard_worker import Ready
from tests import loopback
from tests.loopback import honest, served
from tests.stages import judged


@pytest.fixture
def run(tmp_path):
    """Judged by rule: `Red.` is right, which the honest endpoint says it is not."""
    recipe = judged.config(tmp_path, {"type": "rule"})
    run = judged.write_run(recipe)
    task = ScoreTask(recipe.score, 1024, 0)
    for shard in judged.shards(recipe):
        run.add_table(shard.file("verdicts"), task.compute(shard, task.rows(run, shard), Ready()))
    run.write_json("run.json", {"recipe": recipe.model_dump(mode="json")})
    return run


def agreement(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["masters", "judge-agreement", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    return ended.value.code or 0, said.out + said.err


def content(run):
    return {name: run.read(name) for name in run.names()}


def test_kappa_table_and_examples(run, monkeypatch, capfd):
    before = content(run)
    with served(honest) as server:
        judge = json.dumps({"type": "endpoint", "base_url": server.url, "model": "m", "attempts": 1})
        code, said = agreement(monkeypatch, capfd, run.uri, "--judge", judge, "--judge", "{type: rule}", "--sample", 60)
    assert code == 0
    assert content(run) == before
    endpoint, rule = said.split("rule beside the run's rule")
    assert "endpoint beside the run's rule: 60 responses, 60 with both verdicts" in endpoint
    assert "response Red." in endpoint
    assert "rule: right" in endpoint
    assert "endpoint: wrong" in endpoint
    assert "kappa 1.00 [" in rule
    assert "agreement 100.0 %" in rule
    kappa = float(endpoint.split("kappa ")[1].split(" ")[0])
    low, high = (float(x) for x in endpoint.split("[")[1].split("]")[0].split(","))
    assert low < kappa < high < 1
    cells = [
        [int(x) for x in line.split()[1:]]
        for line in endpoint.splitlines()
        if line.split()[:1] in (["right"], ["wrong"])
    ]
    (both, second_null, _), (none, _, _) = (cells[0][0], cells[0][2], 0), (cells[1][0], 0, 0)
    assert second_null == none == 0
    assert both > 0
    assert sum(map(sum, cells)) == 60


def test_nulls_are_counted_apart(run, monkeypatch, capfd):
    def script(number, body):
        return "hm" if "\nblue\n" in loopback.user_text(body) else honest(number, body)

    with served(script) as server:
        judge = json.dumps({"type": "endpoint", "base_url": server.url, "model": "m", "attempts": 1})
        _, said = agreement(monkeypatch, capfd, run.uri, "--judge", judge, "--sample", 60)
    wrong = next(line.split() for line in said.splitlines() if line.split()[:1] == ["wrong"])
    nulls = int(wrong[3])
    assert f"60 responses, {60 - nulls} with both" in said


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("{type: oracle}", "--judge"),
        ("{type: endpoint}", "base_url"),
        ("{type: [", "cannot be read"),
        ("missing.yaml", "cannot be read"),
        ("{type: endpoint, base_url: 'https://h/v1', model: m, key_env: sk-12345678}", "key_env"),
    ],
)
def test_what_is_no_judge(run, monkeypatch, capfd, judge, message):
    code, said = agreement(monkeypatch, capfd, run.uri, "--judge", judge)
    assert code == 1
    assert message in said
    assert "sk-12345678" not in said


def test_a_folder_without_verdicts(tmp_path, monkeypatch, capfd):
    code, said = agreement(monkeypatch, capfd, tmp_path, "--judge", "{type: rule}")
    assert code == 1
    assert "is no run directory" in said
