"""What stages refuse before they start anything, and what their digests do not hold."""

import json
import shutil
from types import SimpleNamespace

import pytest

from masters.config.load import load_recipe
from masters.stages import mask, score, train


def recipe(*overrides):
    return load_recipe("recipes/tiny.yaml", overrides)


def test_weights_that_bf16_cannot_hold_are_refused_when_they_are_read():
    config = recipe("train.precision=bf16")
    teacher, tensors = config.curriculum[0], {"w": SimpleNamespace(dtype="float16")}
    with pytest.raises(ValueError, match=r"train\.precision = bf16: the weights of big are float16"):
        mask._check_precision(teacher, tensors, config)
    mask._check_precision(teacher, {"w": SimpleNamespace(dtype="bfloat16")}, config)
    mask._check_precision(teacher, tensors, recipe())
    unmasked = recipe("train.precision=bf16", "curriculum[0].r_max=0")
    mask._check_precision(unmasked.curriculum[0], tensors, unmasked)


def test_what_changes_no_result_redoes_nothing():
    assert train.parts(recipe()) == train.parts(recipe("train.gradient_checkpointing=true", "train.checkpoint_every=7"))
    saving = ("train.checkpoint_minutes=1", "train.keep_checkpoints=9", "train.scratch=/scratch")
    assert train.parts(recipe()) == train.parts(recipe(*saving))
    assert train.parts(recipe()) != train.parts(recipe("train.lr=1e-5"))
    by_level = ("train.students_by_level=true", "prepare.sources[0].validation_images=1")
    assert train.parts(recipe(*by_level)) == train.parts(recipe(*by_level, "train.keep=best"))
    assert not {"keep", "students_by_level"} & set(train.parts(recipe())["train"])
    assert train.parts(recipe()) != train.parts(recipe("train.students_by_level=true"))
    judged = "score.judge={type: teacher, max_tokens: 32}"
    assert score.parts(recipe(judged)) == score.parts(recipe(judged, "score.numeric_tolerance=0.1"))
    assert score.parts(recipe()) != score.parts(recipe("score.numeric_tolerance=0.1"))


def test_tokens_without_a_row_in_the_head_are_told(make_family):
    """As of InternVL3, whose tokenizer has one more than the head."""
    student, teacher = make_family("internvl3"), make_family("internvl3", "teacher")
    _, _, notes = mask._list_files(str(teacher), str(student), "HF_TOKEN")
    assert [note.partition(": ")[2] for note in notes] == [
        "the head has 422 rows, the tokenizer 423 ids; never answered: <video>"
    ] * 2
    student, teacher = make_family("internvl3_5"), make_family("internvl3_5", "teacher")
    assert mask._list_files(str(teacher), str(student), "HF_TOKEN")[2] == []


def test_a_teacher_with_other_tokens_is_refused_before_it_generates(tmp_path):
    student, teacher = "models/tiny/student", tmp_path / "teacher"
    assert mask._list_files("models/tiny/teacher", student, "HF_TOKEN") == ("qwen2_5_vl", ["model.safetensors"], [])
    shutil.copytree("models/tiny/teacher", teacher)
    written = json.loads((teacher / "tokenizer.json").read_text())
    swapped = written["model"]["vocab"]
    *_, first, second = swapped
    swapped[first], swapped[second] = swapped[second], swapped[first]
    (teacher / "tokenizer.json").write_text(json.dumps(written))
    with pytest.raises(
        ValueError, match=r"models/tiny/student and .*: token \d+ is .*not of one family\. Take a teacher of"
    ):
        mask._list_files(str(teacher), student, "HF_TOKEN")
