"""recipes/paper: every pair of section 4.1 and the chains of mid-size teachers, on the groups of the values that they name."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from masters.cli import app
from masters.config.load import load_recipe
from masters.families.released import released

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "recipes" / "paper"
NAMES = {
    "qwen2.5-vl": "Qwen/Qwen2.5-VL-{}-Instruct",
    "qwen3-vl": "Qwen/Qwen3-VL-{}-Instruct",
    "internvl3": "OpenGVLab/InternVL3-{}-hf",
    "internvl3.5": "OpenGVLab/InternVL3_5-{}-HF",
}
PAIRS = {  # section 4.1: students, and teachers of which each may teach each student
    "qwen2.5-vl": ("3B 7B", "32B 72B"),
    "qwen3-vl": ("2B 4B 8B", "32B"),
    "internvl3": ("2B 8B", "14B 38B 78B"),
    "internvl3.5": ("2B 4B 8B", "14B 38B"),
}
CHAINS = {  # all that are between student and largest teacher: Table 2, and section 4.3 for InternVL3
    ("internvl3.5", "8B"): "14B 38B",
    ("internvl3.5", "4B"): "8B 14B 38B",
    ("internvl3.5", "2B"): "4B 8B 14B 38B",
    ("internvl3", "8B"): "14B 38B 78B",
}
R_MAX = {  # of teachers; 0.2 where the paper is silent
    ("qwen2.5-vl", "72B"): ("0.2", "Table 5a"),
    ("qwen3-vl", "32B"): ("0.4", "Table 5a"),
    ("internvl3", "78B"): ("0.2", "Table 5a"),
    ("internvl3.5", "38B"): ("0.2", "Table 5a"),
    ("internvl3.5", "8B"): ("0.4", "section 4.3"),
    ("internvl3.5", "14B"): ("0.4", "section 4.3"),
}
IMAGES = {
    "qwen2.5-vl": {"max_pixels": 1280 * 28 * 28},
    "qwen3-vl": {"max_pixels": 1280 * 32 * 32},
    "internvl3": {"max_tiles": 6},
    "internvl3.5": {"max_tiles": 6},
}
RECIPES = {
    "-".join([family, student.lower(), "from", *(teacher.lower() for teacher in teachers)]): (family, student, teachers)
    for family, student, teachers in (
        *(
            (family, student, (teacher,))
            for family, (students, teachers) in PAIRS.items()
            for student in students.split()
            for teacher in teachers.split()
        ),
        *((family, student, tuple(teachers.split())) for (family, student), teachers in CHAINS.items()),
    )
}


def test_there_is_a_recipe_for_each_and_no_other():
    assert {file.stem for file in FOLDER.glob("[!_]*.yaml")} == {*RECIPES, "data"}
    assert len(RECIPES) == 23
    assert sorted(file.name for file in FOLDER.glob("_*")) == ["_base.yaml"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_little_and_all_that_the_paper_says(name):
    family, student, teachers = RECIPES[name]
    path = FOLDER / f"{name}.yaml"
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert "extends: _base.yaml" in lines
    config = load_recipe(path)
    assert config.name == name
    assert config.student.path == NAMES[family].format(student)
    assert [teacher.path for teacher in config.curriculum] == [NAMES[family].format(size) for size in teachers]
    assert config.images.given == IMAGES[family]
    assert config.train.groups_per_step == 128  # of the base
    licences = re.search(r"^# Licences, not verified: (both|all)?(.*?)\. ", path.read_text(), re.MULTILINE)
    for size, teacher in zip((student, *teachers), (None, *config.curriculum), strict=True):
        licence = released(NAMES[family].format(size)).licence
        assert f" {licence}" if licences[1] else f"{size} {licence}" in licences[2]
        if teacher is not None:
            r_max, where = R_MAX.get((family, size), ("0.2", "not in the paper"))
            assert (str(teacher.r_max), str(teacher.mask_step)) == (r_max, "0.05")
            (line,) = (line for line in lines if line.startswith("  - ") and f"{teacher.path}," in line)
            assert line.endswith(f"# {where}")


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_has_a_place_and_every_model_fits(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (FOLDER / f"{name}.yaml").read_text()
    (command,) = re.findall(r"^#   masters check (\S+) --values (\S+)$", text, re.MULTILINE)
    assert command[0] == f"recipes/paper/{name}.yaml"
    checked = CliRunner().invoke(app, ["check", command[0], "--values", command[1]])
    assert checked.exit_code == 0, checked.exception
    assert f"{command[1]}: every stage fits on its groups: " in checked.output
    assert f"{command[0]}: fine. " in checked.output
    planned = CliRunner().invoke(app, ["plan", command[0], "--values", command[1]])
    assert planned.exit_code == 0, planned.exception  # nothing of it lacks memory or disk
    (memory,) = re.findall(r"^memory +(\d+) of (\d+) GiB of a GPU in training", planned.output, re.MULTILINE)
    assert 0 < int(memory[0]) < int(memory[1]) == 79
    for author in ("student", *(teacher.alias for teacher in load_recipe(ROOT / command[0]).curriculum)):
        assert re.search(rf"^  {author} .*generate: \d+ A100-80G", planned.output, re.MULTILINE), author


@pytest.mark.parametrize("values", ["paper-qwen", "paper-internvl"])
def test_engines_with_fewer_gpus_are_refused(values, monkeypatch):
    """So the table above would fail if a teacher had too few."""
    monkeypatch.chdir(ROOT)
    recipe = {"paper-qwen": "qwen2.5-vl-7b-from-72b", "paper-internvl": "internvl3.5-8b-from-38b"}[values]
    arguments = ["plan", f"recipes/paper/{recipe}.yaml", "--values", f"k8s/chart/ci/{values}.yaml"]
    planned = CliRunner().invoke(app, [*arguments, "--set", "curriculum[0].gpus_per_engine=1"])
    assert planned.exit_code == 1
    assert "curriculum[0].gpus_per_engine = 1: stage generate: weights of" in str(planned.exception)
