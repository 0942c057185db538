"""score on a local Ray, with a judge behind an address of this machine."""

import re

import pytest

from masters.cli import _in_one_line
from masters.reporting.progress import Screen
from masters.stages.cluster import disconnect
from masters.stages.score import execute
from tests import loopback
from tests.loopback import honest, served
from tests.stages import judged

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True, scope="module")
def _ray():
    yield
    disconnect()


def endpoint(url, **fields):
    return {"type": "endpoint", "base_url": url, "model": "m", "attempts": 2, **fields}


def score(folder, judge, name="small", **fields):
    recipe = judged.config(folder, judge, name, **fields)
    run = judged.write_run(recipe)
    return recipe, run, execute(recipe, run, Screen())


def expected(row):
    said = judged.text(row)
    if row["author"] == "label" or said == "red":
        return 1
    return 0


def test_equal_responses_of_all_authors_are_judged_once_and_runs_share_verdicts(tmp_path):
    pool = {"score": {"min_actors": 2, "max_actors": 2}}
    shared = {"cache": str(tmp_path / "cache")}
    with served(honest) as server:
        recipe, run, (counts, words) = score(tmp_path, endpoint(server.url), score=shared, resources=pool)
        first = [loopback.user_text(b) for b in server.seen if "<overall_summary " not in loopback.user_text(b)]
    assert set(judged.tables(run)) == {shard.file("verdicts") for shard in judged.shards(recipe)}
    rows = judged.rows(run)
    assert len(rows) == 30 * 5
    assert [row["verdict"] for row in rows] == [expected(row) for row in rows]
    asked = {(row["sample_id"], judged.text(row)) for row in rows if row["judge"].startswith("endpoint")}
    assert len(first) <= len(asked) < sum(row["judge"].startswith("endpoint") for row in rows)
    by = counts["by"]
    assert by["judged"] + by["equal"] == sum(row["judge"].startswith("endpoint") for row in rows)
    assert by["judged"] == len(first)
    assert by["equal"] > 0 == by["cached"]
    assert f"{by['equal']:,} equal" in words
    assert not run.names("judged")
    for name, table in judged.tables(run).items():
        order = [
            (r["sample_id"], r["index"]) for r in run.read_table(name.replace("verdicts", "responses", 1)).to_pylist()
        ]
        assert [(row["sample_id"], row["index"]) for row in table] == order

    with served(lambda *_: pytest.fail("asked again")) as other:
        judge = endpoint(server.url)  # the same judge, which is gone
        _, again, (counts, _) = score(tmp_path, judge, "again", score=shared, seed=5)
    assert not other.seen
    assert counts["by"]["judged"] == 0 < counts["by"]["cached"]
    assert [row["verdict"] for row in judged.rows(again)] == [row["verdict"] for row in rows]


def test_a_dead_server_stops_the_stage_and_the_next_attempt_goes_on(tmp_path):
    alive = [70]

    def script(number, body):
        return honest(number, body) if number < alive[0] else loopback.broken(503)

    with served(script) as server:
        judge = endpoint(server.url, attempts=1, max_concurrency=1)
        recipe = judged.config(tmp_path, judge)
        run = judged.write_run(recipe)
        with pytest.raises(Exception, match=r"score.judge: http://127.* does not answer \(HTTP 503") as stopped:
            execute(recipe, run, Screen())
        assert re.search(r"score.judge: .* Run again to go on\.$", _in_one_line(stopped.value))
        assert not run.names("verdicts")
        kept = run.names("judged", ".parquet")
        assert kept  # what was whole is not asked again
        before = len(server.seen)
        alive[0] = 10**6
        counts, _ = execute(recipe, run, Screen())
    rows = judged.rows(run)
    assert [row["verdict"] for row in rows] == [expected(row) for row in rows]
    assert not counts["null"]
    assert len(server.seen) - before < 2 * counts["by"]["judged"]
