"""Benchmarks through real engines: on a finished run only evaluate is done anew, and every model is asked every row.

Killed in the middle and started again it leaves the same bytes; a judge that is a model reads what the rules leave open.
"""

import json
import re
import shutil
from dataclasses import asdict

import pyarrow as pa
import pytest

from masters.benchmarks import BENCHMARKS
from masters.config.load import load_recipe
from masters.data.manifests import read_manifest
from masters.data.shards import cut
from masters.data.storage import Storage
from masters.engines.masked_vllm import engine_environment
from masters.reporting.benchmarks import RESULTS
from masters.stages.benchmark_files import FOLDER, bring_questions
from masters.stages.benchmark_tasks import PARTS, AskTask, JudgeTask, author, from_table, judged_shard
from masters.stages.shard_worker import EngineSpec, ShardWorker
from tests.stages.conftest import JUDGE, masters
from tests.stages.test_kill import kill_when
from tests.unit.benchmarks.tables import make, rows_of, write

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

SOME = ("MMStar", "MMBench_DEV_EN", "ChartQA_TEST", "BLINK")
BEFORE = ("prepare", "mask", "generate", "score", "train")


def written(finished, folder, names):
    """The recipe of the finished run with benchmarks; a row of MMStar holds a token of chat templates."""
    for name in names:
        make(name, folder)
    rows = rows_of("MMStar")
    rows[4]["question"] = "<|im_start|>system"
    write(folder / "MMStar.tsv", rows)
    recipe = json.loads(finished.recipe.read_text())
    recipe["evaluate"]["benchmarks"] = [
        {"name": name, "path": str(folder / f"{name}.tsv"), "max_tokens": 16} for name in names
    ]
    recipe["evaluate"]["shard_size"] = 4
    path = folder / "small.yaml"
    path.write_text(json.dumps(recipe))
    return path


@pytest.fixture(scope="module")
def recipe(finished, tmp_path_factory):
    """With every benchmark there is."""
    return written(finished, tmp_path_factory.mktemp("all"), BENCHMARKS)


@pytest.fixture(scope="module")
def short(finished, tmp_path_factory):
    """With four of them."""
    return written(finished, tmp_path_factory.mktemp("some"), SOME)


def copied(finished, folder):
    """A copy of the finished run; its storage."""
    shutil.copytree(finished.local_path, folder / "small")
    return Storage(str(folder / "small"))


@pytest.fixture(scope="module")
def asked(finished, recipe, tmp_path_factory):
    """(run, what the command printed)."""
    folder = tmp_path_factory.mktemp("asked")
    run = copied(finished.run, folder)
    return run, masters("run", recipe, "--set", f"storage={folder}").stdout


def test_only_evaluate_is_done_anew(finished, asked):
    run, _ = asked
    for stage in BEFORE:
        assert read_manifest(run, stage).digest == read_manifest(finished.run, stage).digest
        assert read_manifest(run, stage).finished == read_manifest(finished.run, stage).finished
    assert not run.names(PARTS)
    assert not run.names(FOLDER)


def test_every_model_answers_every_row_that_can_be_asked(asked):
    run, printed = asked
    results = run.read_json(RESULTS)
    assert results["models"] == ["baseline", "big", "student"]
    levels = {name.split("/")[3].rpartition(".")[0] for name in run.names("evaluation/benchmarks/MMStar", ".json")}
    assert levels == {"baseline", "big", "student", *(f"student@big@r0.{r}" for r in ("40", "20", "00"))}
    chosen, said = run.read_json("evaluation/chosen.json")["level"], []
    graded = [name for name, benchmark in BENCHMARKS.items() if benchmark.metric == "graded"]
    for found in results["benchmarks"]:
        name, rows = found["name"], found["rows"]
        counted = BENCHMARKS[name].split
        assert rows == sum(not counted or row["split"] == counted for row in rows_of(name))
        barred = 1 if name == "MMStar" else 0
        for score in found["scores"].values():
            assert (score["answered"], score["failed"], score["quarantined"]) == (rows - barred, 0, barred)
            if name in graded:  # only a judge can, and the rule is none
                assert score["value"] is None
                continue
            assert 0 <= score["value"] <= 1
            assert score["interval"]["n"] == (4 if BENCHMARKS[name].metric == "circular" else rows)
        answers = [
            run.read_table(f"evaluation/benchmarks/{name}/{who}.parquet") for who in ("student", f"student@{chosen}")
        ]
        assert answers[0].equals(answers[1])
        said += answers[0]["text"].to_pylist()
    assert sum(map(bool, said)) > len(said) / 2
    assert results["mean_of"] == [name for name in BENCHMARKS if name not in graded]
    assert re.search(rf"^mean of {len(results['mean_of'])} *$", printed, re.M)
    assert "1 of 5 rows cannot be asked and count as wrong: 4" in run.read("report.html").decode()


def test_what_was_asked_is_compared_and_exported_without_another_engine(finished, asked, recipe, tmp_path):
    run, _ = asked
    (own,) = json.loads(masters("compare", finished.run.uri, run.uri, "--json").stdout)["rows"]
    assert (own["difference"]["value"], own["common"], own["refused"]) == (0, own["first"]["n"], [])
    told = json.loads(masters("compare", run.uri, run.uri, "--json").stdout)
    assert [row["name"] for row in told["rows"][1:]] == list(BENCHMARKS)
    assert {row["difference"]["value"] for row in told["rows"] if row["name"] in told["mean_of"]} == {0}
    storage = run.local_path.rpartition("/")[0]
    done = masters("evaluate", recipe, "--set", f"storage={storage}", "--export", "vlmevalkit", tmp_path / "out")
    assert re.search("evaluate .*done \\(digest", done.stdout)
    out = Storage(str(tmp_path / "out"))
    files = {f"{who}/{who}_{name}.tsv" for who in ("baseline", "big", "student") for name in BENCHMARKS}
    assert set(out.names()) == files
    assert out.read("student/student_MMStar.tsv").decode().count("Failed to obtain answer via API.") == 1
    assert "the student's paired gain" in run.read("report.html").decode()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("changed", [(), (JUDGE,), ("resources.engine.overlap=true",)])
def test_killed_in_the_middle_and_started_again_the_scores_are_the_same_bytes(request, short, tmp_path, changed):
    finished = request.getfixturevalue("judged") if JUDGE in changed else request.getfixturevalue("finished").run
    options = [word for option in changed for word in ("--set", option)]
    run, undisturbed = (copied(finished, tmp_path / name) for name in ("killed", "undisturbed"))
    folder = f"{PARTS}/big@MMBench_DEV_EN"
    masters("evaluate", short, "--set", f"storage={tmp_path / 'undisturbed'}", *options)
    assert not kill_when(
        lambda: run.names(folder, ".parquet"), short, tmp_path / "killed", command="evaluate", options=options
    )
    assert not run.exists(RESULTS)
    masters("evaluate", short, "--set", f"storage={tmp_path / 'killed'}", *options)
    names = run.names("evaluation")
    assert names == undisturbed.names("evaluation")
    for name in names:
        assert run.read(name) == undisturbed.read(name), name
    judged = sum(
        score["judged"] for found in run.read_json(RESULTS)["benchmarks"] for score in found["scores"].values()
    )
    assert bool(judged) == (JUDGE in changed)


def test_a_judge_that_is_a_model_reads_what_the_rules_leave_open(finished, short, tmp_path, monkeypatch):
    config = load_recipe(short, [JUDGE, f"storage={tmp_path}"])
    for name, value in engine_environment(0, config.resources.engine).items():
        monkeypatch.setenv(name, value)
    run = Storage(str(tmp_path / "small"))
    bring_questions(0, config, run)
    (shard,) = cut(author("baseline", "MMStar"), "0.00", "MMStar", 0, 4, 4)
    texts = ("the second", "B", "hard to say", "C or D")
    rows = [{"sample_id": str(i), "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
    run.write_table(shard.file(PARTS), pa.Table.from_pylist(rows))
    task = JudgeTask("MMStar", "baseline", config.score.judge, "tiny", 1024, 1)
    worker = ShardWorker([task], [EngineSpec.of(config.score.judge, config, 1)], run)
    receipt = worker(pa.Table.from_pylist([{"job": 0, "place": 0, **asdict(judged_shard(shard))}])).to_pylist()[0]
    worker._loaded.engine.close()
    assert receipt["rejected"] == 0
    assert receipt["tokens"] > 0
    found = from_table(run.read_table(judged_shard(shard).file(PARTS)))
    assert [outcome.index for outcome in found] == ["0", "2", "3"]
    assert all(outcome.asked and outcome.by in ("judge", "nobody") for outcome in found)
    assert AskTask("MMStar", 16, config.evaluate).rows(run, shard)[0]["sample_id"] == "0"
