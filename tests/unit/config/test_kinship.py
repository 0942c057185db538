"""A teacher of another family is refused before anything is fetched, by its name on the hub or by its folder."""

import json

import pytest

from masters.config.kinship import family_problems
from masters.config.load import load_recipe
from masters.config.problems import RecipeError

QWEN, THIRD = "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
INTERN, HALF = "OpenGVLab/InternVL3-8B-hf", "OpenGVLab/InternVL3_5-8B-HF"
FINE = [
    (QWEN, "Qwen/Qwen2.5-VL-72B-Instruct"),
    (QWEN, "Qwen/Qwen2.5-VL-72B-Instruct@main"),
    (THIRD, "Qwen/Qwen3-VL-30B-A3B-Instruct"),
    (INTERN, "OpenGVLab/InternVL3-78B-hf"),
    (HALF, "OpenGVLab/InternVL3_5-30B-A3B-HF"),
    (QWEN, "someone/tuned"),  # nobody here knows it: `mask` compares the tokens
    ("someone/tuned", INTERN),
    ("{qwen2_5_vl}", QWEN),
    (QWEN, "{qwen2_5_vl}"),
    ("{qwen3_vl}", "{qwen3_vl_moe}"),
    ("{internvl}", INTERN),  # which of both series a folder is of, its tokens tell
    ("{internvl}", HALF),
    (QWEN, "{broken}"),
    (QWEN, "{none}"),
]
REFUSED = {
    (QWEN, INTERN): "is of InternVL3 and the student of Qwen2.5-VL: their tokens and image processors differ, and a teacher's "
    "probabilities are compared with the student's token by token. Take a teacher of Qwen2.5-VL: Qwen/Qwen2.5-VL-72B-Instruct, "
    "Qwen/Qwen2.5-VL-32B-Instruct, Qwen/Qwen2.5-VL-7B-Instruct.",
    (QWEN, THIRD): "is of Qwen3-VL and the student of Qwen2.5-VL",
    (INTERN, HALF): "is of InternVL3.5 and the student of InternVL3: ",
    (THIRD, "{qwen2_5_vl}"): "is of qwen2_5_vl and the student of Qwen3-VL: ",
    ("{qwen2_5_vl}", "{internvl}"): "is of internvl and the student of qwen2_5_vl: their tokens and image processors differ, and a "
    "teacher's probabilities are compared with the student's token by token. Take a teacher of qwen2_5_vl: "
    "Qwen/Qwen2.5-VL-72B-Instruct,",
    ("{qwen2_5_vl}", "{llava}"): "is of llava and the student of qwen2_5_vl",
    ("{llava}", QWEN): "is of Qwen2.5-VL and the student of llava: their tokens and image processors differ, and a teacher's "
    "probabilities are compared with the student's token by token. Take a teacher of llava.",
    (HALF, "OpenGVLab/InternVL3_5-38B"): "is in OpenGVLab's own layout, which runs code from the hub. Use the Hugging Face layout: "
    "OpenGVLab/InternVL3_5-38B-HF.",
}  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """place("{kind}") -> a folder whose config.json names that kind; names on the hub stay."""

    def made(path):
        if not path.startswith("{"):
            return path
        folder = tmp_path / path.strip("{}")
        folder.mkdir(exist_ok=True)
        kind = json.dumps({"model_type": folder.name}) if folder.name != "broken" else "{"
        if folder.name != "none":
            (folder / "config.json").write_text(kind)
        return str(folder)

    return made


@pytest.mark.parametrize(("student", "teacher"), FINE)
def test_teachers_of_the_students_family(place, student, teacher):
    assert list(family_problems(place(student), [place(teacher)])) == []


@pytest.mark.parametrize("pair", REFUSED, ids=" ".join)
def test_teachers_of_another_family(place, tmp_path, pair):
    student, teacher = map(place, pair)
    recipe = tmp_path / "my.yaml"
    models = {"student": {"path": student}, "curriculum": [{"alias": "big", "path": teacher}]}
    recipe.write_text(json.dumps({**models, "prepare": {"sources": [{"type": "charts"}]}}))
    with pytest.raises(RecipeError) as refused:
        load_recipe(recipe)
    assert f"my.yaml: curriculum[0].path = {teacher}: {REFUSED[pair]}" in str(refused.value)
    assert len(refused.value.problems) == 1


def test_every_teacher_is_looked_at_and_the_students_layout(place):
    found = [str(problem) for problem in family_problems("OpenGVLab/InternVL3-2B", ["someone/tuned", QWEN])]
    assert len(found) == 1
    assert found[0].startswith("student.path = OpenGVLab/InternVL3-2B: is in OpenGVLab's own layout")
    found = [str(problem) for problem in family_problems(INTERN, ["OpenGVLab/InternVL3-78B-hf", QWEN])]
    assert len(found) == 1
    assert found[0].startswith(f"curriculum[1].path = {QWEN}: is of Qwen2.5-VL")
