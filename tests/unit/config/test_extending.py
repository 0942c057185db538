"""Recipes over a base: what is merged, what is refused, and that nothing of it is left in what a run records."""

import json

import pytest

from masters.config.extending import recipe_text
from masters.config.load import load_recipe, load_sources, read_recipe
from masters.config.problems import RecipeError

BASE = """
name: base
seed: 7
student: {path: a/student, gpus_per_engine: 1}
train: {lr: 1e-5, betas: [0.5, 0.75], groups_per_step: 32}
score: {judge: {type: model, path: a/judge}}
prepare: {sources: [{type: charts}, {type: charts, name: more}]}
"""
MINE = "extends: _base.yaml\ncurriculum: [{alias: big, path: a/teacher}]\n"


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path / "mine.yaml"

    return write


MERGED = {
    "fields of the base": ("", lambda c: (c.seed, c.student.path) == (7, "a/student")),
    "its name is not handed on": ("", lambda c: c.name == "mine"),
    "a name of its own": ("name: other", lambda c: c.name == "other"),
    "a value": ("seed: 8", lambda c: c.seed == 8),
    "a field of a mapping": (
        "train: {lr: 1e-6}",
        lambda c: (c.train.lr, c.train.betas, c.train.groups_per_step) == (1e-6, (0.5, 0.75), 32),
    ),
    "a mapping in a mapping": (
        "score: {judge: {path: b/judge}}",
        lambda c: (c.score.judge.path, c.score.judge.type) == ("b/judge", "model"),
    ),
    "a list as a whole": ("prepare: {sources: [{type: charts}]}", lambda c: len(c.prepare.sources) == 1),
    "null: the default": (
        "train: {lr: null, betas: null}",
        lambda c: (c.train.lr, c.train.betas) == (1e-6, (0.9, 0.95)),
    ),
    "null in a union": ("score: {judge: {path: null, type: rule}}", lambda c: c.score.judge.type == "rule"),
}


@pytest.mark.parametrize("what", MERGED)
def test_a_recipe_lies_over_its_base(write, what):
    text, holds = MERGED[what]
    path = write(_base=BASE, mine=f"{MINE}{text}\n")
    assert holds(load_recipe(path))
    assert "extends" not in json.dumps(load_recipe(path).model_dump(mode="json"))


def test_a_base_has_a_base_of_its_own_and_each_looks_from_its_folder(write):
    path = write(
        mine="extends: parts/upper.yaml\nseed: 1\n",
        parts__upper="extends: lower.yaml\nseed: 2\ntrain: {lr: 2e-6}\n",
        parts__lower=BASE + "curriculum: [{alias: big, path: a/teacher}]\n",
        lower="seed: wrong folder\n",
    )
    config = load_recipe(path)
    assert (config.seed, config.train.lr, config.train.groups_per_step) == (1, 2e-6, 32)
    assert config.name == "mine"


def test_set_goes_last(write):
    path = write(_base=BASE, mine=MINE + "train: {lr: 1e-6}\n")
    config = load_recipe(path, ["train.lr=3e-6", "train.betas=[0.1, 0.2]", "prepare.sources[1].train_images=5"])
    assert (config.train.lr, config.train.betas) == (3e-6, (0.1, 0.2))
    assert config.prepare.sources[1].train_images == 5


def test_sources_alone_may_lie_over_others(write):
    prepare, _ = load_sources(
        write(_base="max_reject_ratio: 0.5\n", mine="extends: _base.yaml\nsources: [{type: charts}]\n")
    )
    assert (prepare.max_reject_ratio, len(prepare.sources)) == (0.5, 1)


@pytest.mark.parametrize("value", ["0.2", "1e-6", "'no'", "'1e-6'", "'0123'", "2020-01-01", "'a: b #c'", "true", "[]"])
def test_one_file_says_the_same_as_both(write, value):
    path = write(_base=BASE, mine=f'{MINE}some: {{field: {value}, "other\\u00e9": {value}}}\n')
    merged = path.parent / "one" / "mine.yaml"
    merged.parent.mkdir()
    merged.write_text(recipe_text(path), encoding="utf-8")
    assert read_recipe(merged) == read_recipe(path)


def test_a_recipe_that_extends_nothing_stays_as_it_is_written(write):
    path = write(mine=BASE + "# a comment\n")
    assert recipe_text(path) == BASE + "# a comment\n"


REFUSED = {
    "no such file": (
        {"mine": "extends: none.yaml"},
        "mine.yaml: extends = none.yaml: there is no such file in {}. Name a recipe by its path from the folder of this one.",
    ),
    "a folder": ({"mine": "extends: ."}, "mine.yaml: extends = .: there is no such file in {}."),
    "no name": ({"mine": "extends: 3"}, "mine.yaml: extends = 3: is not the name of a recipe. Write one file, as"),
    "several": ({"mine": "extends: [_base.yaml]"}, "mine.yaml: extends = ['_base.yaml']: is not the name of a recipe."),
    "itself": ({"mine": "extends: mine.yaml"}, "mine.yaml: extends = mine.yaml: extends itself in the end: mine.yaml -> mine.yaml."),
    "a cycle": (
        {"mine": "extends: b.yaml", "b": "extends: ./c.yaml", "c": "extends: b.yaml"},
        "c.yaml: extends = b.yaml: extends itself in the end: mine.yaml -> b.yaml -> c.yaml -> b.yaml. Take one of them out.",
    ),
    "no recipe": ({"mine": "extends: _base.yaml", "_base": "- a"}, "_base.yaml: file: is not a mapping of fields."),
    "no YAML": ({"mine": "extends: _base.yaml", "_base": "a: [1"}, "_base.yaml: line 1, column 6: is not YAML:"),
    "incomplete together": ({"mine": "extends: _base.yaml", "_base": BASE}, "mine.yaml: curriculum: is required."),
    "a field that is none": ({"mine": MINE + "seeed: 3", "_base": BASE}, "mine.yaml: seeed = 3: is not a field of a recipe."),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_file_value_rule_and_remedy(write, tmp_path, what):
    files, said = REFUSED[what]
    with pytest.raises(RecipeError) as refused:
        load_recipe(write(**files))
    assert said.replace("{}", str(tmp_path)) in str(refused.value)


def test_a_base_cannot_be_set(write):
    with pytest.raises(RecipeError, match=r"--set extends = x.yaml: comes too late: .* Write it in the recipe\."):
        load_recipe(write(_base=BASE, mine=MINE), ["extends=x.yaml"])
