"""The whole chain on tiny data, with real vLLM, Ray Data, Ray Train and DeepSpeed ZeRO-3 on two workers."""

import collections
import hashlib
import html
import math
import re
import shutil
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from masters.config.load import load_recipe
from masters.data.image_shards import read_image
from masters.data.manifests import read_manifest
from masters.data.metrics import REWARDS_FOLDER, read_metrics
from masters.data.samples import read_split
from masters.data.shards import response_seed
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, REJECTS, RESPONSES, REWARDS, SAMPLES, VERDICTS
from masters.pipeline import NAMES, STAGES
from masters.stages.base import plan
from masters.training.clock import PARTS
from masters.training.event_files import FOLDER
from tests.stages.conftest import masters
from tests.stages.data import BROKEN

pytestmark = [pytest.mark.engine, pytest.mark.chain, pytest.mark.filterwarnings("default")]


def everything(run, folder, schema):
    return run.read_tables(run.names(folder, ".parquet"), schema)


def test_it_ends_with_a_table_and_what_to_type_next(finished):
    lines = finished.printed.splitlines()
    assert [name for name in NAMES if any(line.startswith(name) for line in lines)] == list(NAMES)
    for model in ("baseline", "student (trained)", "teacher big"):
        assert re.search(rf"^{re.escape(model)} +\d+\.\d +\d+\.\d to \d+\.\d +\d\.\d\d M", finished.printed, re.M), (
            model
        )
    assert "next     masters show" in finished.printed


def test_no_line_of_a_library_on_the_terminal(finished):
    for word in ("Ray", "vLLM", "DeepSpeed", "WARNING", "INFO", "pid=", "Traceback"):
        assert word not in finished.printed
    assert len(finished.printed.splitlines()) < 30


def test_every_broken_row_is_in_rejects_with_its_own_reason(finished):
    rejects = everything(finished.run, "rejects/prepare", REJECTS).to_pylist()
    assert collections.Counter(r["reason"] for r in rejects) == collections.Counter(dict.fromkeys(BROKEN, 1))
    assert len(rejects) >= 20
    by_reason = {r["reason"]: r["row"] for r in rejects}
    assert by_reason["id is used twice"] == "good-0"
    assert by_reason["image is corrupt"] == "b16"
    assert read_manifest(finished.run, "prepare").counts["rejects"] == dict.fromkeys(BROKEN, 1)


def test_good_rows_are_samples_in_a_fixed_order_at_a_fixed_level(finished):
    train = read_split(finished.run, "train")
    assert train.schema.equals(SAMPLES)
    ids = train["sample_id"].to_pylist()
    mine = {i for i in ids if i.startswith("mine/")}
    assert mine == {
        *(f"mine/good-{i}" for i in range(12)),
        "mine/text-only",
        "mine/two-images",
        "mine/one-pixel",
        "mine/twenty-megapixels",
        "mine/emoji",
        "mine/talk#0",
        "mine/talk#1",
    }
    assert train["position"].to_pylist() == list(range(len(ids)))
    levels = [level for (level,) in train["levels"].to_pylist()]
    assert list(dict.fromkeys(levels)) == ["big@r0.40", "big@r0.20", "big@r0.00"]
    assert ids != sorted(ids)
    rows = {row["sample_id"]: row for row in train.to_pylist()}
    assert len(rows["mine/two-images"]["image_ids"]) == 2
    assert rows["mine/text-only"]["image_ids"] == []
    assert rows["mine/talk#1"]["history"]
    assert rows["mine/talk#1"]["system"] == "Be brief."
    for image_id in {name for row in rows.values() for name in row["image_ids"]}:
        assert image_id.rpartition("/")[2].startswith(hashlib.sha256(read_image(finished.run, image_id)).hexdigest())


def test_every_question_is_answered_by_its_level_the_student_and_the_label(finished):
    responses = everything(finished.run, "responses", RESPONSES).to_pylist()
    levels = {row["sample_id"]: row["levels"][0] for row in read_split(finished.run, "train").to_pylist()}
    counts = collections.Counter((r["sample_id"], r["author"]) for r in responses)
    expected = {
        (s, author): n for s, level in levels.items() for author, n in ((level, 2), ("student", 2), ("label", 1))
    }
    assert counts == expected
    for response in responses:
        if response["author"] == "label":
            assert response["seed"] is None
        else:
            base = response_seed(3, response["sample_id"], response["author"])
            assert response["seed"] == base + response["index"]
        assert (response["finish_reason"] == "stop") == (response["token_ids"][-1] == 2)


def test_every_response_has_a_verdict(finished):
    keys = [
        [(r["sample_id"], r["author"], r["index"]) for r in everything(finished.run, folder, schema).to_pylist()]
        for folder, schema in (("responses", RESPONSES), ("verdicts", VERDICTS))
    ]
    assert keys[0] == keys[1]
    verdicts = everything(finished.run, "verdicts", VERDICTS)
    assert verdicts.filter(pc.equal(verdicts["author"], "label"))["verdict"].to_pylist() == [1] * (len(keys[0]) // 5)
    assert set(verdicts["verdict"].to_pylist()) == {0, 1}


def test_each_term_is_logged_at_every_step(finished):
    rows = read_metrics(finished.run)
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert list(dict.fromkeys(row["level"] for row in rows)) == ["big@r0.40", "big@r0.20", "big@r0.00"]
    for row in rows:
        of_terms = [f"gradient_norm_{term}" for term in ("policy", "kl", "distill")]
        assert [name in row for name in of_terms] == [row["step"] % 4 == 0] * 3
        of_all = ("loss_policy", "loss_kl", "loss_distill", "gradient_norm", "divergence", "divergence_student", "lr",
                  "divergence_teacher", "distill_reward", "accuracy_reward", "log_probability_right")  # fmt: skip
        for name in (*of_all, *(name for name in of_terms if name in row)):
            assert math.isfinite(row[name]), name
    # The student is still the reference; what is left is its mass on ids that no tokenizer has, at some 20 nats.
    assert 0 <= rows[0]["loss_kl"] < 1e-5 < rows[-1]["loss_kl"]
    assert sum(row["groups"] for row in rows) == read_split(finished.run, "train").num_rows


def test_what_each_step_cost_is_logged(finished):
    rows = read_metrics(finished.run)
    for row in rows:
        parts = [row[f"time_{part}"] for part in PARTS]
        assert min(parts) >= 0
        assert all(row[f"time_{part}"] > 0 for part in ("frozen", "student", "objective", "optimiser"))
        assert sum(parts) - row["time_data"] <= row["time_step"] * 1.001
        assert 0 <= row["time_ranks"] < row["time_frozen"] + row["time_student"] + row["time_objective"]
        assert row["tokens_per_second"] == pytest.approx(row["n_tokens"] / row["time_step"])
        assert 0 < row["useful_share"] < 1
        assert 0.1 < row["peak_memory_gib"] < 100
        assert (row["n_responses"], row["dropped_share"]) == (row["n_divergence"], 0)
    responses = everything(finished.run, "responses", RESPONSES).to_pylist()
    expected = sum(len(response["token_ids"]) for response in responses if response["text"].strip())
    assert sum(row["n_trained_tokens"] for row in rows) == expected
    assert next(row["step"] for row in rows if row["time_teacher"] > 0.01 * row["time_step"]) == 0
    assert sum(row["time_step"] for row in rows) < read_manifest(finished.run, "train").seconds


def test_tensorboard_files_hold_all_steps(finished):
    rows = read_metrics(finished.run)
    spans = [name.rpartition("steps-")[2].removesuffix(".tfevents").split("-") for name in finished.run.names(FOLDER)]
    assert int(spans[0][0]) == 0
    assert [int(start) for start, _ in spans[1:]] == [int(stop) for _, stop in spans[:-1]]
    assert int(spans[-1][1]) == len(rows)


def test_what_each_response_earned_is_kept(finished):
    rewards = everything(finished.run, REWARDS_FOLDER, REWARDS).to_pylist()
    responses = everything(finished.run, "responses", RESPONSES).to_pylist()
    earned, answered = (
        sorted((r["sample_id"], r["author"], r["index"]) for r in rows)
        for rows in (rewards, [r for r in responses if r["text"]])
    )
    assert earned == answered
    assert all(r["divergence"] >= -1e-7 and 0 <= r["distill_reward"] <= 1 and r["advantage"] >= 0 for r in rewards)


def test_the_student_is_an_ordinary_folder_and_has_learnt_something_else(finished, trained):
    import torch
    from safetensors.torch import load_file

    from masters.models.checkpoint import load_model

    folder = Path(finished.run.local_path, "train/student")
    model = load_model(folder, torch.bfloat16)
    before, after = load_file(trained[0] / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(after[name].dtype == before[name].dtype and after[name].shape == before[name].shape for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert model.config.architectures == ["Qwen2_5_VLForConditionalGeneration"]


LEVELS = ["big@r0.40", "big@r0.20", "big@r0.00"]


def test_a_student_of_each_level_is_whole_and_the_last_one_is_that_of_the_last_level(finished):
    run = finished.run
    contents = [run.read(f"train/levels/{level}/model.safetensors") for level in LEVELS]
    assert len(set(contents)) == len(LEVELS)
    names = [name.removeprefix("train/student") for name in run.names("train/student")]
    assert run.names("train/levels") == sorted(f"train/levels/{level}{name}" for level in LEVELS for name in names)
    for name in names:
        assert run.read(f"train/student{name}") == run.read(f"train/levels/{LEVELS[-1]}{name}"), name


def test_the_best_student_by_validation_is_the_run_s(finished):
    run, chosen = finished.run, finished.run.read_json("evaluation/chosen.json")
    validation = {row["sample_id"] for row in read_split(run, "validation").to_pylist()}
    rights = {}
    for level in LEVELS:
        table = run.read_table(f"evaluation/student@{level}/validation/predictions.parquet")
        assert set(table["sample_id"].to_pylist()) == validation
        rights[level] = sum(table["correct"].to_pylist())
        assert chosen["by_level"][level]["value"] == pytest.approx(rights[level] / len(validation))
    assert chosen["level"] == max(reversed(LEVELS), key=rights.__getitem__)
    own, mine = (f"evaluation/{name}" for name in (f"student@{chosen['level']}", "student"))
    assert run.read(f"{own}/predictions.parquet") == run.read(f"{mine}/predictions.parquet")
    assert run.read_json(f"{mine}/scores.json").items() >= run.read_json(f"{own}/scores.json").items()
    assert run.exists(f"{chosen['folder']}/model.safetensors")
    assert f"\nstudent  {run.uri}/{chosen['folder']}\n" in finished.printed
    assert f"kept {chosen['folder']}, best of 3 on {len(validation)} questions of validation" in finished.printed


def test_all_models_are_examined_in_one_harness(finished):
    test = {row["sample_id"]: row for row in read_split(finished.run, "test").to_pylist()}
    for name in ("baseline", "big", "student", *(f"student@{level}" for level in LEVELS)):
        table = finished.run.read_table(f"evaluation/{name}/predictions.parquet")
        assert table.schema.equals(PREDICTIONS)
        assert set(table["sample_id"].to_pylist()) == set(test)
        scores = finished.run.read_json(f"evaluation/{name}/scores.json")
        assert scores["accuracy"]["value"] == pytest.approx(sum(table["correct"].to_pylist()) / len(test))
        assert sum(kind["n"] for kind in scores["by_type"].values()) == len(test)
    assert finished.run.read_json("evaluation/big/scores.json")["accuracy"]["value"] > 0.7
    assert finished.run.names("evaluation/parts") == []


def test_the_report_opens_offline_and_shows_everything(finished):
    page = finished.run.read("report.html").decode()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert "@import" not in page
    for heading in (
        "Accuracy",
        "Training",
        "Responses and rewards",
        "Masks",
        "Gallery",
        "departs from the paper",
        "Operations",
        "Rejected rows",
    ):
        assert heading in page
    assert page.count("<svg") >= 9
    assert "Over training: the student at the end of each level" in page
    assert "The run's student is the " in html.unescape(page)
    assert "train.policy_weight" in page
    assert "image is corrupt" in page
    assert page.count("data:image/png;base64") >= 20


def test_a_run_without_a_teacher_has_a_report_too(finished, tmp_path):
    from masters.reporting.page import build_page

    shutil.copytree(finished.run.local_path, tmp_path / "small")
    run = Storage(str(tmp_path / "small"))
    run.delete(REWARDS_FOLDER)  # as train.objective sft leaves it
    page = build_page(load_recipe(finished.recipe), run)
    assert "Right responses by author" in page
    assert "How far teacher and student are apart" not in page


def test_running_again_does_nothing_in_under_three_seconds(finished):
    began = time.monotonic()
    done = masters("run", finished.recipe)
    assert time.monotonic() - began < 4.5  # 3 s on an idle machine
    assert done.stdout.count("done (digest") == len(NAMES)


def test_what_is_redone_for_which_change(finished):
    def stale(*overrides):
        planned = plan(STAGES, load_recipe(finished.recipe, overrides))
        return [name for name in NAMES if planned[name].digest != read_manifest(finished.run, name).digest]

    assert stale() == []
    assert stale("resources.generate.max_actors=7", "storage=/elsewhere", "train.checkpoint_every=7") == []
    assert stale("train.lr=1e-5") == ["train", "evaluate", "report"]
    assert stale("train.keep=last") == ["evaluate", "report"]
    assert stale("generate.temperature=0.8") == ["generate", "score", "train", "evaluate", "report"]
    assert stale("score.numeric_tolerance=0.1") == ["score", "train", "evaluate", "report"]
    assert stale("mask.scope=all") == ["mask", "generate", "score", "train", "evaluate", "report"]
    assert stale("curriculum[0].mask_step=0.1") == list(NAMES)
    assert stale("seed=4") == [name for name in NAMES if name != "mask"]


def test_show_tells_one_samples_story(finished):
    done = masters("show", finished.run.uri, "--sample", "mine/talk#1")
    for words in (
        "mine/talk#1",
        "Be brief.",
        "question  How many?",
        "accepted  2",
        "big@r0.",
        "student",
        "label",
        "R_distill",
    ):
        assert words in done.stdout
    test = read_split(finished.run, "test")["sample_id"][0].as_py()
    assert "baseline" in masters("show", finished.run.uri, "--sample", test).stdout
    rejected = masters("show", finished.run.uri, "--sample", "mine/b16", check=False)
    assert (rejected.returncode, "was rejected: image is corrupt" in rejected.stderr) == (1, True)
    unknown = masters("show", finished.run.uri, "--sample", "mine/none", check=False)
    assert "no such sample" in unknown.stderr


def test_an_ordinary_masked_checkpoint_for_those_who_want_one(finished, tmp_path, trained):
    from safetensors.torch import load_file

    done = masters("mask", finished.recipe, "--export", tmp_path / "masked", "--ratio", "0.2")
    assert "big at ratio 0.2" in done.stdout
    name = "model.layers.0.mlp.up_proj.weight"
    masked, plain = (load_file(f / "model.safetensors")[name] for f in (tmp_path / "masked", trained[1]))
    assert ((masked == 0).sum() - (plain == 0).sum()) / plain.numel() == pytest.approx(0.2, abs=0.01)
    refused = masters("mask", finished.recipe, "--export", tmp_path / "no", "--ratio", "0.3", check=False)
    assert "thresholds were made for 0.40, 0.20, 0.00" in refused.stderr


def test_a_secret_is_in_no_file_and_not_on_the_screen(finished):
    assert finished.secret not in finished.printed
    names = finished.run.names()
    assert {"run.json", "report.html"} <= set(names)
    assert any(name.startswith("logs/") for name in names)
    for name in names:
        assert finished.secret.encode() not in finished.run.read(name), name
    assert finished.run.read_json("run.json")["recipe"]["hub_token_env"] == "HF_TOKEN"
