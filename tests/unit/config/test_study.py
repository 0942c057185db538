"""Study files: what their runs are, and what is refused, with path, value, rule and remedy."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from masters import cli
from masters.config.load import load_recipe
from masters.config.problems import RecipeError
from masters.config.study import load_study

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
BASE = """
student: {path: a/student}
curriculum: [{alias: big, path: a/teacher, r_max: 0.2}]
prepare: {sources: [{type: charts, test_images: 9}]}
train: {lr: 1e-5, policy_weight: 0.5}
from_run: earlier
"""
OTHER = "{student: {path: b/student}, curriculum: [{alias: big, path: b/teacher}], prepare: {sources: [{type: charts}]}, train: {policy_weight: 0.25}}"
FILES = {
    "base": BASE,
    "other": OTHER,
    "over": "extends: base.yaml\ntrain: {policy_weight: 0}\n",
    "twice": "extends: over.yaml\ntrain: {lr: 1e-4}\n",
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        for name, content in FILES.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return write


def test_runs_are_seeds_of_rows(write):
    study = load_study(
        write(
            """
storage: out
set: [train.lr=1e-4, generate.top_k=7]
seeds: [3, {seed: 4, set: [student.path=s4, generate.top_k=8]}]
rows:
  - {name: plain, recipe: base.yaml}
  - {name: none, recipe: over.yaml, set: [generate.top_k=9], against: plain}
"""
        )
    )
    found = [(run.name, run.config) for run in study.runs]
    assert [name for name, _ in found] == ["plain-3", "none-3", "plain-4", "none-4"]
    assert {config.storage for _, config in found} == {"out/mine"} == {study.folder}
    assert [config.seed for _, config in found] == [3, 3, 4, 4]
    assert [config.generate.top_k for _, config in found] == [7, 9, 8, 9]
    assert [config.student.path for _, config in found] == ["a/student", "a/student", "s4", "s4"]
    assert [config.train.policy_weight for _, config in found] == [0.5, 0, 0.5, 0]
    assert {config.train.lr for _, config in found} == {1e-4}
    assert {config.from_run for _, config in found} == {None}


def test_a_base_takes_the_place_of_what_recipes_extend(write):
    study = load_study(write("base: other.yaml\nseeds: [1]\nrows: [{name: a}, {name: b, recipe: over.yaml}]"))
    assert [run.config.student.path for run in study.runs] == ["b/student", "b/student"]
    assert [run.config.train.policy_weight for run in study.runs] == [0.25, 0]
    assert [run.config.train.lr for run in study.runs] == [1e-6, 1e-6]


ROW = "seeds: [1]\nrows: [{name: a, recipe: base.yaml%s}]\n"
REFUSED = {
    "not a mapping": ("[]", "file: is not a mapping of fields. docs/study.md"),
    "no rows": ("seeds: [1]", "rows: is required. docs/study.md"),
    "no seeds": ("seeds: []\nrows: [{name: a, recipe: base.yaml}]", "seeds = []: tuple should have at least 1 item"),
    "a field": (ROW % ", agains: b", 'rows[0].agains = "b": is not a field of a study. Did you mean against?'),
    "a field of a seed": (
        "seeds: [{seed: 1, path: s}]\nrows: [{name: a, recipe: base.yaml}]",
        'seeds[0].path = "s": is not a field of a study. Known here: seed, set.',
    ),
    "a seed": (
        "seeds: [x]\nrows: [{name: a, recipe: base.yaml}]",
        'seeds[0].seed = "x": input should be a valid integer',
    ),
    "a name": ("seeds: [1]\nrows: [{name: A, recipe: base.yaml}]", 'rows[0].name = "A": string should match pattern'),
    "a long name": (
        f"seeds: [1]\nrows: [{{name: {'a' * 39}, recipe: base.yaml}}]",
        f'rows[0] {"a" * 39}, seed 1: name = "{"a" * 39}-1"',
    ),
    "a name twice": (
        "seeds: [1]\nrows: [{name: a, recipe: base.yaml}, {name: a, recipe: over.yaml}]",
        "rows[1].name = a: is used twice. Give every row a name of its own.",
    ),
    "a row called baseline": (
        "seeds: [1]\nrows: [{name: baseline, recipe: base.yaml}]",
        "rows[0].name = baseline: is the student that every row starts from. Give every row",
    ),
    "against itself": (ROW % ", against: a", "rows[0].against = a: is no other row. Name one of baseline."),
    "a difference to nothing": (
        ROW % ", paper: {where: T1, change: 1}",
        "rows[0].paper.change = 1.0: is a difference to nothing: the row is not compared. Say against which row.",
    ),
    "a sign": (
        ROW % ", against: baseline, paper: {where: T1, change: up}",
        'rows[0].paper.change = "up": is neither a number nor a sign. Write 0.4 for points, or + or - in quotes.\n1 problem',
    ),
    "a seed twice": (
        "seeds: [1, {seed: 1}]\nrows: [{name: a, recipe: base.yaml}]",
        "seeds[1] = 1: is used twice. Name each seed once.",
    ),
    "no recipe": (
        "seeds: [1]\nrows: [{name: a}]",
        "rows[0].recipe: is required where the study has no base. Name a recipe.",
    ),
    "what the study says itself": (
        ROW % ", set: [seed=2]",
        "rows[0].set[0] = seed=2: sets seed, which the study gives each run. Leave it out; seeds stand under `seeds`.",
    ),
    "the same for all": (
        "set: [train.lr=1, name=x]\n" + ROW % "",
        "set[1] = name=x: sets name, which the study gives each run. Leave it out",
    ),
    "a recipe that is not there": (
        "seeds: [1]\nrows: [{name: a, recipe: none.yaml}]",
        "rows[0] a, seed 1: file: No such file or directory.",
    ),
    "a recipe's field, once for all": (
        "seeds: [1, 2]\nset: [train.lr=-1]\nrows: [{name: a, recipe: base.yaml}, {name: b, recipe: base.yaml}]",
        "rows[0] a, seed 1 and 3 other runs: train.lr = -1: input should be greater than 0. Write more than 0.0.\n1 problem;",
    ),
    "a base below two": (
        "base: other.yaml\nseeds: [1]\nrows: [{name: a, recipe: twice.yaml}]",
        "recipe = twice.yaml: extends over.yaml, which extends another",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(write, what):
    text, told = REFUSED[what]
    file = write(text)
    with pytest.raises(RecipeError) as error:
        load_study(file)
    assert str(error.value).startswith(f"{file}: ")
    assert told in str(error.value)


def test_the_studies_that_ship_and_a_row_for_every_ablation(monkeypatch):
    monkeypatch.chdir(ROOT)
    studies = {file.stem: load_study(file) for file in STUDIES}
    assert set(studies) == {"ladder", "seeds", "tables"}
    for study in studies.values():
        assert len(study.config.seeds) >= 3
        assert all(row.against for row in study.config.rows)
    used = {Path(str(row.recipe)).stem for row in studies["tables"].config.rows}
    there = {file.stem for file in (ROOT / "recipes" / "ablations").glob("*.yaml")}
    assert used == there
    assert len(there) > 20


def test_each_ablation_is_checked_and_only_one_is_the_whole_method(monkeypatch):
    monkeypatch.chdir(ROOT)
    whole, same = load_recipe("recipes/tiny.yaml").model_dump(exclude={"name"}), []
    for file in sorted((ROOT / "recipes" / "ablations").glob("*.yaml")):
        said = CliRunner().invoke(cli.app, ["check", str(file)])
        assert ": fine. " in said.output, (file, said.exception)
        if load_recipe(file).model_dump(exclude={"name"}) == whole:
            same.append(file.stem)
    assert same == ["masters"]
