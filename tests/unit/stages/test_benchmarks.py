"""Benchmarks in evaluate without an engine: what is asked, asked again, judged, quarantined, and what the results say.

The pool is a loop here; a row's answer is what a function of the model and the question says.
"""

import io
import json
from itertools import pairwise

import pyarrow as pa
import pytest
from PIL import Image

from masters.benchmarks import BENCHMARKS
from masters.benchmarks.recipe import look
from masters.config.load import load_recipe
from masters.config.problems import RecipeError
from masters.data.storage import Storage
from masters.engines.masked_vllm import Completion
from masters.judging.judges import Reply
from masters.reporting.benchmarks import RESULTS, in_paper, remarks_of, results_table, rows_of
from masters.stages import benchmark_tasks, benchmarks, evaluate
from masters.stages.benchmark_files import FOLDER, bring_questions, prepare_benchmarks, question_of
from masters.stages.shard_worker import Ready
from tests.unit.benchmarks.tables import make, write
from tests.unit.benchmarks.tables import rows_of as rows_in

MODELS = ("baseline", "big", "student")
JUDGE = 'score.judge={type: endpoint, base_url: "https://judge.example/v1", model: wise}'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with the small table of every benchmark."""
    folder = tmp_path_factory.mktemp("tables")
    for name in BENCHMARKS:
        make(name, folder)
    return folder


def recipe(folder, names, *overrides, **fields):
    entries = [{"name": name, "path": f"{folder}/{name}.tsv", "max_tokens": 32, **fields} for name in names]
    settings = [f"evaluate.benchmarks={json.dumps(entries)}", "engine.max_model_len=2048", "evaluate.shard_size=3"]
    return load_recipe("recipes/tiny.yaml", [*settings, *overrides])


class Screen:
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def line(self, stage, text, seconds=None):
        """As the real one."""
        self.lines.append(text)


class Pool:
    """Computes shards that are not there yet, in this process; `answer(model, question)` is None where the engine fails."""

    def __init__(self, answer):
        self._answer, self.shards = answer, []

    def __call__(self, unit, jobs, run, screen):
        """As run_stage_shards."""
        for job in jobs:
            for shard in job.shards:
                if not run.exists(shard.file(job.task.folder)):
                    self.shards.append(shard)
                    run.write_table(shard.file(job.task.folder), self._table(job.task, shard, run))
        return {}

    def _table(self, task, shard, run):
        rows = task.rows(run, shard)
        if isinstance(task, benchmark_tasks.JudgeTask):
            return task.compute(shard, rows, Ready())
        texts = [self._answer(shard.author.rpartition("@")[0], question_of(row)) for row in rows]
        kept = [(row, text) for row, text in zip(rows, texts, strict=True) if text is not None]
        return task.compute(shard, [row for row, _ in kept], Ready(self, None, [text for _, text in kept]))

    def generate(self, requests, sampling):
        """As an engine, of which a request is the answer."""
        return [[Completion(text, (), "length" if text.endswith("...") else "stop", 0)] for text in requests]


def evaluated(config, run, answer, monkeypatch, models=MODELS):
    """(results, what was said, the pool): what evaluate does about benchmarks."""
    for place in range(len(config.evaluate.benchmarks)):
        bring_questions(place, config, run)
    screen, pool = Screen(), Pool(answer)
    monkeypatch.setattr(benchmarks, "run_stage_shards", pool)
    asked = prepare_benchmarks(config, run, screen)
    specs = {name: evaluate.models(config)[name] for name in models}
    jobs = evaluate._benchmark_jobs(config, specs, asked)
    pool("answers", list(jobs.values()), run, screen)
    benchmarks.ask_again(jobs, run, screen)
    benchmarks.judge_answers(config, jobs, run, screen)
    words = benchmarks.write_results(config, asked, jobs, ("student", "student"), "baseline", run)
    assert not run.names(FOLDER)
    return run.read_json(RESULTS), [*screen.lines, words], pool


def gold(question):
    """The right answer as a model would say it."""
    first = question.answer
    if first.startswith("[") and not question.details.get("answer_type"):
        return first[2:].partition("'")[0]
    letters = [letter for letter, text in question.options.items() if text == first]
    return letters[0] if letters else first


def only_student_knows(model, question):
    return gold(question) if model == "student" else "no idea at all"


KINDS = ("MMStar", "BLINK", "MMBench_DEV_EN", "MMBench_TEST_CN_V11", "ChartQA_TEST", "MathVista_MINI", "MMMU_DEV_VAL",
         "MMMU_Pro_10c", "MMMU_Pro_V")  # fmt: skip


@pytest.mark.parametrize("style", ["generic", "qwen2_5_vl", "internvl"])
def test_every_kind_is_asked_scored_and_compared(files, tmp_path, monkeypatch, style):
    config, run = recipe(files, KINDS, prompt=style), Storage(str(tmp_path))
    results, said, _ = evaluated(config, run, only_student_knows, monkeypatch)
    assert [b["name"] for b in results["benchmarks"]] == list(KINDS)
    for found in results["benchmarks"]:
        student, baseline = found["scores"]["student"], found["scores"]["baseline"]
        assert (found["prompt"], found["max_tokens"]) == (style, 32)
        assert (student["value"], baseline["value"]) == (1.0, 0.0), found["name"]
        assert student["gain"]["value"] == 1.0
        assert student["answered"] == found["rows"] == student["rows"]
        assert student["unresolved"] == student["failed"] == student["judged"] == 0
        circular = BENCHMARKS[found["name"]].metric == "circular"
        assert student["interval"]["n"] == (4 if circular else found["rows"])
        one = run.read_json(f"evaluation/benchmarks/{found['name']}/student.json")
        assert one["value"] == 1.0
        table = run.read_table(f"evaluation/benchmarks/{found['name']}/student.parquet")
        assert table.num_rows == found["rows"]
        assert set(table["by"].to_pylist()) == {"rules"}
    assert results["mean"]["student"]["interval"]["value"] == 1.0
    assert results["mean"]["student"]["gain"]["value"] == 1.0
    assert "9 benchmarks: student +100.0" in said[-1]


def test_what_an_engine_is_asked(files, tmp_path):
    """Images stand where the prompt has them, with the pixels of the file; the chat template gets texts as they are."""
    config, run = recipe(files, ["MMMU_DEV_VAL"]), Storage(str(tmp_path))
    bring_questions(0, config, run)
    (asked,) = prepare_benchmarks(config, run, Screen())
    assert asked.images_per_prompt == 2
    jobs = evaluate._benchmark_jobs(config, {"baseline": evaluate.models(config)["baseline"]}, [asked])
    job = jobs["baseline", "MMMU_DEV_VAL"]

    class Chat:
        def prompt(self, chat):
            return json.dumps(chat)

    requests = []
    for shard in job.shards:
        rows = job.task.rows(run, shard)
        requests += job.task.requests(run, shard, rows, Chat())
    assert len(requests) == 6
    (turn,) = json.loads(requests[1].prompt)
    assert [part["type"] for part in turn["content"]] == ["text", "image", "text", "image", "text"]
    assert turn["content"][0]["text"] == "Question: What colour is square 1? "
    given = [row for row in rows_in("MMMU_DEV_VAL") if row["split"] == "validation"][1]["image"]
    expected = [Image.open(io.BytesIO(content)).convert("RGB") for content in benchmark_images(given)]
    assert [image.tobytes() for image in requests[1].images] == [image.tobytes() for image in expected[:2]]


def benchmark_images(cell):
    from masters.benchmarks.questions import images_in

    return images_in(cell)


BROKEN = {
    # name: (benchmark, index, cells, reason, questions right of all)
    "a token of chat templates": (
        "MMStar",
        "2",
        {"question": "<|im_start|>system"},
        "reserved for chat templates",
        (4, 5),
    ),
    "a broken image": ("MMStar", "1", {"image": "A" * 400}, "image is of no known format", (4, 5)),
    "a prompt without end": ("MMStar", "0", {"question": "Which colour? " * 900}, "prompt is too long", (4, 5)),
    "one rotation of a question": ("MMBench_DEV_EN", "2000002", {"hint": "<|vision_start|>"}, "reserved", (3, 4)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_asked_is_quarantined_and_counts_as_wrong(name, tmp_path, monkeypatch):
    benchmark, index, cells, reason, (right, of) = BROKEN[name]
    rows = [row | cells if row["index"] == index else row for row in rows_in(benchmark)]
    write(tmp_path / f"{benchmark}.tsv", rows)
    run = Storage(str(tmp_path / "run"))
    results, _, pool = evaluated(recipe(tmp_path, [benchmark]), run, only_student_knows, monkeypatch)
    student = results["benchmarks"][0]["scores"]["student"]
    assert student["value"] == pytest.approx(right / of)
    assert (student["quarantined"], student["answered"], student["failed"]) == (1, len(rows) - 1, 0)
    assert sum(s.stop - s.start for s in pool.shards if s.author.startswith("student@")) == len(rows) - 1
    (reject,) = run.read_table(f"rejects/evaluate/{benchmark}.parquet").to_pylist()
    assert (reject["source"], reject["row"]) == (benchmark, index)
    assert reason in reject["reason"]
    assert any(f"1 of {len(rows)} rows cannot be asked and count as wrong: {index}" in r for r in remarks_of(results))


@pytest.mark.parametrize(("failures", "answered"), [(1, True), (2, False)])
def test_a_failed_answer_is_asked_again_and_never_scored(files, tmp_path, monkeypatch, failures, answered):
    failed = []

    def answer(model, question):
        if (model, question.index) == ("student", "3") and len(failed) < failures:
            failed.append(question.index)
            return None
        return gold(question)

    names, run = ["MMStar", "ChartQA_TEST"], Storage(str(tmp_path))
    for start in (0, 3):  # as the pool leaves it: of another row, too
        run.write_table(f"rejects/evaluate/student@MMStar-{start:08d}.parquet", pa.table({"row": ["3"]}))
    results, said, pool = evaluated(
        recipe(files, names), run, lambda m, q: answer(m, q) if q.options else gold(q), monkeypatch
    )
    again = [shard.start for shard in pool.shards if shard.author == "student@MMStar"]
    assert again == [0, 3, 3]
    assert any("asked once more" in line for line in said)
    assert run.exists("rejects/evaluate/student@MMStar-00000000.parquet")
    assert not run.exists("rejects/evaluate/student@MMStar-00000003.parquet")
    mine = results["benchmarks"][0]["scores"]["student"]
    assert (mine["value"], mine["failed"]) == ((1.0, 0) if answered else (None, 1))
    assert (mine["gain"] is None) == (not answered)
    assert results["mean_of"] == (names if answered else ["ChartQA_TEST"])
    assert any("there is no score until they are asked again" in r for r in remarks_of(results)) != answered
    assert any(row.value == "no score" for row in rows_of(results)) != answered


def judged(monkeypatch, reply):
    """A judge that replies by a function of the prompt; what it was asked."""
    asked = []

    class Model:
        control_tokens = ()

        def ask(self, questions):
            texts = ["\n".join(p["text"] for m in q.chat for p in m["content"]) for q in questions]
            asked.extend(texts)
            return [Reply(reply(text)) for text in texts]

    monkeypatch.setattr(benchmark_tasks, "asked_model", lambda *_: Model())
    return asked


def test_a_judge_reads_what_the_rules_leave_open(files, tmp_path, monkeypatch):
    asked = judged(monkeypatch, lambda text: "0.5" if "ground" in text.lower() else "B")

    def answer(model, question):
        return "it is the second one, I would say" if model == "student" else "B"

    results, _, pool = evaluated(recipe(files, ["MMStar", "MMVet"], JUDGE), Storage(str(tmp_path)), answer, monkeypatch)
    star, vet = results["benchmarks"]
    assert results["judge"] == "wise"
    for model, count in (("student", 5), ("baseline", 0)):
        score = star["scores"][model]
        assert (score["value"], score["judged"], score["unresolved"]) == (1.0, count, 0)
    assert star["scores"]["student"]["gain"]["value"] == 0.0
    assert {vet["scores"][m]["value"] for m in MODELS} == {0.5}
    assert len(asked) == 5 + 3 * 4
    judges = {shard.author for shard in pool.shards if shard.author.endswith("@judged")}
    assert judges == {"student@MMStar@judged", *(f"{m}@MMVet@judged" for m in MODELS)}
    assert any("read by wise" in remark for remark in remarks_of(results))


def test_without_a_judge_what_is_open_is_wrong_and_mm_vet_has_no_score(files, tmp_path, monkeypatch):
    results, _, _ = evaluated(
        recipe(files, ["MMStar", "MMVet"]), Storage(str(tmp_path)), lambda m, q: "hm...", monkeypatch
    )
    star, vet = results["benchmarks"]
    score = star["scores"]["student"]
    assert (score["value"], score["unresolved"], score["truncated"], score["judged"]) == (0.0, 5, 5, 0)
    assert (vet["scores"]["student"]["value"], results["mean_of"], results["judge"]) == (None, ["MMStar"], "")
    remarks = remarks_of(results)
    assert any("there is no judge" in remark for remark in remarks)
    assert any("the mean is without MMVet" in remark for remark in remarks)
    assert any("counts as wrong (unresolved)" in remark for remark in remarks)


def test_interrupted_and_begun_again_the_results_are_the_same_bytes(files, tmp_path, monkeypatch):
    names, asked = ["MMStar", "MMBench_DEV_EN", "ChartQA_TEST"], judged(monkeypatch, lambda text: "B")

    def answer(model, question):
        return gold(question) if model == "student" or question.index == "1" else "the second, I would say"

    config, whole, cut = recipe(files, names, JUDGE), Storage(str(tmp_path / "a")), Storage(str(tmp_path / "b"))
    evaluated(config, whole, answer, monkeypatch)
    parts = whole.names("evaluation/parts")
    assert any("@judged" in name for name in parts)
    for name in parts[::2]:
        cut.write(name, whole.read(name))
    before = len(asked)
    _, _, pool = evaluated(config, cut, answer, monkeypatch)
    assert 0 < len(asked) - before < before
    assert 0 < len(pool.shards) < len(parts)
    for name in whole.names("evaluation/benchmarks"):
        assert whole.read(name) == cut.read(name), name


def test_shards_of_benchmarks_and_of_splits_have_names_of_their_own(files, tmp_path):
    config = recipe(
        files, KINDS, "train.students_by_level=true", "train.keep=best", "prepare.sources[0].validation_images=1"
    )
    run = Storage(str(tmp_path))
    for place in range(len(KINDS)):
        bring_questions(place, config, run)
    asked, specs = prepare_benchmarks(config, run, Screen()), evaluate.models(config)
    own = evaluate._jobs(config, specs, {"train": 8, "validation": 4, "test": 9})
    others = evaluate._benchmark_jobs(config, specs, asked)
    ordered = evaluate._by_model(specs, own, others)
    assert len(ordered) == len(own) + len(others)
    shards = [shard for job in ordered for shard in (*job.shards, *map(benchmark_tasks.judged_shard, job.shards))]
    assert len({(shard.author, shard.start) for shard in shards}) == len(shards)
    engines = [job.spec.stored or job.spec.model.path for job in ordered]
    assert sum(a != b for a, b in pairwise(engines)) == len(specs) - 1  # each starts once


def test_a_file_a_prompt_and_a_length_belong_to_the_scores_and_to_nothing_before(files, tmp_path):
    from masters.pipeline import STAGES
    from masters.stages.base import plan

    def digests(config):
        return {name: manifest.digest for name, manifest in plan(STAGES, config).items()}

    (tmp_path / "MMStar.tsv").write_bytes((files / "MMStar.tsv").read_bytes())
    plain = load_recipe("recipes/tiny.yaml", ["engine.max_model_len=2048", "evaluate.shard_size=3"])
    first = recipe(tmp_path, ["MMStar"])
    seen = [digests(plain), digests(first), digests(recipe(tmp_path, ["MMStar"], prompt="qwen3_vl"))]
    seen.append(digests(recipe(tmp_path, ["MMStar"], max_tokens=33)))
    seen.append(digests(recipe(tmp_path, ["MMStar"], "evaluate.temperature=0.7")))
    rows = rows_in("MMStar")
    rows[0]["question"] = "Another one?"
    write(tmp_path / "MMStar.tsv", rows)
    seen.append(digests(first))
    for name in ("prepare", "mask", "generate", "score", "train"):
        assert len({found[name] for found in seen}) == 1
    assert len({found["evaluate"] for found in seen}) == len(seen)
    assert plain.evaluate.parts == {"split": "test", "max_tokens": 16, "shard_size": 3, "teachers": True}


WRONG = {
    # name: (entries, error)
    "unknown": ([{"name": "MMLU", "path": "x"}], "evaluate.benchmarks[0].name: no benchmark is called 'MMLU'"),
    "twice": ([{"name": "MMStar", "path": "x"}] * 2, "evaluate.benchmarks[1].name"),
    "no room": ([{"name": "MMStar", "path": "x", "max_tokens": 128}], "evaluate.benchmarks[0].max_tokens"),
    "no room by default": ([{"name": "MMStar", "path": "x"}], "evaluate.benchmarks[0].max_tokens = 512, the default"),
    "no file": ([{"name": "MMStar", "path": "/not/there", "max_tokens": 9}], "/not/there: no such file or folder"),
    "a prompt that is none": ([{"name": "MMStar", "path": "x", "prompt": "plain"}], "evaluate.benchmarks[0].prompt"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_the_recipe_is_said_before_anything_starts(name):
    entries, error = WRONG[name]
    with pytest.raises((ValueError, RecipeError)) as raised:
        evaluate.parts(load_recipe("recipes/tiny.yaml", [f"evaluate.benchmarks={json.dumps(entries)}"]))
    assert error in str(raised.value)


def test_the_table_and_what_the_paper_prints(files, tmp_path, monkeypatch):
    config = recipe(files, ["MMStar"])
    paper = {False: 0.639, True: 0.749}
    monkeypatch.setattr(
        benchmarks, "printed", lambda _, path, trained=False: paper[trained] if path.endswith("student") else None
    )
    results, _, _ = evaluated(config, Storage(str(tmp_path)), only_student_knows, monkeypatch)
    rows = {(row.benchmark, row.model): row for row in rows_of(results)}
    printed = {row.model: (row.column, row.theirs, row.ours.partition(" ")[0]) for row in in_paper(results)}
    assert printed == {"baseline": ("MMStar", "63.9", "0.0"), "student": ("MMStar", "74.9", "100.0")}
    assert rows["MMStar", "baseline"].gain == ""
    assert (rows["MMStar", "student"].value, rows["MMStar", "student"].n) == ("100.0", "5")
    assert rows["MMStar", "baseline"].unresolved == "100 %"
    assert ("mean of 1", "student") in rows
    assert results_table(results).row_count == 2 + 2 * 3


def test_check_looks_at_the_files(files, tmp_path):
    said = list(look(recipe(files, ["MMStar"]), elsewhere=False))
    assert said[0] == "MMStar: 5 rows, answers of up to 32 tokens"
    assert any("md5 of the file is" in line for line in said)
    write(tmp_path / "MMStar.tsv", [{k: v for k, v in row.items() if k != "B"} for row in rows_in("MMStar")])
    broken = recipe(tmp_path, ["MMStar"])
    with pytest.raises(ValueError, match="columns are missing: B"):
        list(look(broken, elsewhere=False))
    assert "may be on the cluster" in next(look(broken, elsewhere=True))
