"""easy-VQA: the package's layout is read, its splits stay apart, and its recipes share no image that they should not."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from masters.config.load import load_recipe
from masters.data.sources.easy_vqa import question_type, rows
from tests.unit.data.sources.test_readers import checked, read_source, source
from tests.unit.data.test_rows import png

ROOT = Path(__file__).parents[4]
READER = "masters.data.sources.easy_vqa:rows"
TRAIN = [[f"what color is the shape?{'?' * (image // 5)}", "blue", image % 5] for image in range(10)]
TEST = [["is there not a circle?", "no", 0], ["what shape is present?", "circle", 0]]


def write(folder, train=TRAIN, test=TEST):
    """The layout of the package's folder `data`."""
    for split, questions in {"train": train, "test": test}.items():
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "questions.json").write_text(json.dumps(questions))
    return folder


@pytest.fixture
def data(tmp_path):
    folder = write(tmp_path / "data")
    for split, images in {"train": 5, "test": 1}.items():
        for image in range(images):
            (folder / split / "images" / f"{image}.png").write_bytes(png(10 + image, 10 * len(split)))
    return folder


def easy_vqa(**options):
    return source(type="custom", name="e", reader=READER, options=options)


def images_of(found):
    """{split: images} of rows, by the numbers in their ids."""
    splits = {}
    for row in found:
        splits.setdefault(row.split, set()).add(row.row_id[: len("train-0000")].rstrip("-"))
    return splits


def test_rows_become_samples(data):
    chosen = easy_vqa(folder=str(data), validation_images=1)
    samples = checked(chosen, read_source(chosen))
    assert Counter(sample["split"] for sample in samples) == {"train": 8, "validation": 2, "test": 2}
    by_id = {sample["sample_id"]: sample for sample in samples}
    assert len(by_id) == 12
    taken = [by_id[name] for name in ("e/train-0003-00", "e/train-0003-01", "e/test-0000-00", "e/test-0000-01")]
    shown = [(sample["question"], sample["answers"], sample["question_type"]) for sample in taken]
    assert shown == [
        ("what color is the shape?", ["blue"], "colour"),
        ("what color is the shape??", ["blue"], "colour"),
        ("is there not a circle?", ["no"], "absent"),
        ("what shape is present?", ["circle"], "shape"),
    ]
    assert taken[0]["image_ids"] == taken[1]["image_ids"]
    assert len({sample["image_ids"][0] for sample in samples}) == 6


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"validation_images": 0}, {"train": 5, "test": 1}),
        ({"validation_images": 2}, {"train": 3, "validation": 2, "test": 1}),
        ({"validation_images": 1, "skip_images": 1}, {"train": 3, "validation": 1, "test": 1}),
        ({"validation_images": 1, "skip_images": 1, "train_images": 2}, {"train": 2, "validation": 1, "test": 1}),
        ({"validation_images": 1, "skip_images": 1, "train_images": 3}, {"train": 3, "validation": 1, "test": 1}),
    ],
)
def test_splits_are_cut_by_image(data, options, sizes):
    splits = images_of(rows(str(data), **options))
    assert {split: len(images) for split, images in splits.items()} == sizes
    assert sum(sizes.values()) == len(set().union(*splits.values()))


def test_the_seed_chooses_the_images_and_nothing_else(tmp_path):
    data = write(tmp_path / "data", [["what?", "a", image] for image in range(40)])
    chosen = {seed: images_of(rows(str(data), seed, 20)) for seed in (0, 1)}
    assert chosen[0] == images_of(rows(str(data), 0, 20))
    assert chosen[0]["validation"] != chosen[1]["validation"]
    assert chosen[0]["test"] == chosen[1]["test"]
    assert images_of(rows(str(data), 0, 30))["validation"] > chosen[0]["validation"]
    assert images_of(rows(str(data), 0, 3))["validation"] == {"train-0009", "train-0021", "train-0032"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("what color is the shape?", "colour"),
        ("what is the color of the circle?", "colour"),
        ("what shape is in the image?", "shape"),
        ("what is the blue shape?", "shape"),
        ("is there a brown shape?", "present"),
        ("does the image contain a triangle?", "present"),
        ("is there not a circle in the image?", "absent"),
        ("does the image not contain a gray shape?", "absent"),
        ("is no rectangle present?", "absent"),
    ],
)
def test_question_types(text, kind):
    assert question_type(text) == kind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"folder": "data"},
            r"prepare\.sources\[e\]\.options\.folder = data: is relative, and workers run elsewhere\.",
        ),
        ({"folder": "/nowhere"}, r"\[e\]\.options\.folder = /nowhere: has no train/questions\.json\. Name the folder"),
        ({"train_images": -1}, r"\[e\]\.options\.train_images = -1: is less than 0\. Use 0 or more\."),
        (
            {"validation_images": 5},
            r"validation_images 5 \+ skip_images 0 \+ train_images 1 are more than the 5 images",
        ),
        ({"skip_images": 2, "train_images": 3}, r"1 \+ skip_images 2 \+ train_images 3 are more than the 5 images"),
        ({"images": 3}, r"raised TypeError: rows\(\) got an unexpected keyword argument 'images'"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be_met(data, options, message):
    with pytest.raises(ValueError, match=message):
        list(read_source(easy_vqa(**{"folder": str(data), "validation_images": 1, **options})))


def test_a_damaged_file_is_named(data):
    (data / "test" / "questions.json").write_text("[[")
    with pytest.raises(ValueError, match=r"\[e\]\.options\.folder = .*: test/questions\.json is no JSON: .* again\.$"):
        list(read_source(easy_vqa(folder=str(data))))


def test_the_installed_package_is_found(data, monkeypatch):
    package = data.parent / "easy_vqa"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('its code is not run')")
    data.rename(package / "data")
    monkeypatch.syspath_prepend(data.parent)
    assert len(list(rows(validation_images=1))) == 12


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(ValueError, match=r"\[e\]\.reader: the package easy-vqa is not installed here\. `\.venv/bin/uv"):
        list(read_source(easy_vqa()))


def test_the_recipes_share_no_image_that_they_should_not(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    data = write(tmp_path / "data", [["what?", "a", image] for image in range(4000)])
    recipes = {name: load_recipe(f"recipes/easy-vqa/{name}.yaml") for name in ("teacher", "student", "tiny")}
    asked = {name: images_of(rows(str(data), **recipe.prepare.sources[0].options)) for name, recipe in recipes.items()}
    assert {name: len(splits["train"]) for name, splits in asked.items()} == {
        "teacher": 3700,
        "student": 700,
        "tiny": 3000,
    }
    assert asked["teacher"]["validation"] == asked["student"]["validation"] == asked["tiny"]["validation"]
    assert not asked["student"]["train"] & asked["tiny"]["train"]
    assert asked["student"]["train"] | asked["tiny"]["train"] == asked["teacher"]["train"]
    made = {name: f"{recipe.storage}/{recipe.name}/train/student" for name, recipe in recipes.items()}
    taught = recipes["tiny"]
    assert [model.path.removeprefix(f"{ROOT}/") for model in (taught.student, taught.curriculum[0])] == [
        made["student"].removeprefix(f"{ROOT}/"),
        made["teacher"].removeprefix(f"{ROOT}/"),
    ]


@pytest.mark.skipif(importlib.util.find_spec("easy_vqa") is None, reason="the package easy-vqa is not installed")
def test_the_package_itself_where_it_is_installed():
    found = list(rows(validation_images=0))
    assert Counter(row.split for row in found) == {"train": 38_575, "test": 9_673}
    assert {split: len(images) for split, images in images_of(found).items()} == {"train": 4000, "test": 1000}
    assert len({row.row_id for row in found}) == 48_248
    assert all((Path(row.folder) / row.images[0]).is_file() for row in found)
    assert sorted({row.question_type for row in found}) == ["absent", "colour", "present", "shape"]
