"""Names of students by level, the best of them, and data without anything to choose by."""

import pytest

from masters.config.load import load_recipe
from masters.data.storage import Storage
from masters.data.students import (
    all_levels,
    best_level,
    check_choice,
    is_level_student,
    level_folder,
    level_student,
    read_chosen,
)

BEST = {
    # name: (accuracies in order of training, the best)
    "one": ({"a": 0.0}, "a"),
    "the highest": ({"a": 0.2, "b": 0.7, "c": 0.6}, "b"),
    "the first": ({"a": 0.7, "b": 0.2}, "a"),
    "of equal ones the later": ({"a": 0.7, "b": 0.7, "c": 0.1}, "b"),
}


@pytest.mark.parametrize("name", BEST)
def test_the_best_level(name):
    accuracies, best = BEST[name]
    assert best_level(accuracies) == best


def test_levels_of_all_teachers_have_a_folder_and_a_name_that_no_teacher_has():
    config = load_recipe("recipes/tiny.yaml", ["curriculum[0].r_max=0.05"])
    two = config.model_copy(
        update={"curriculum": (*config.curriculum, config.curriculum[0].model_copy(update={"alias": "student-x"}))}
    )
    levels = all_levels(two)
    assert levels == ("big@r0.05", "big@r0.00", "student-x@r0.05", "student-x@r0.00")
    assert [level_folder(level) for level in levels][:2] == ["train/levels/big@r0.05", "train/levels/big@r0.00"]
    assert all(is_level_student(level_student(level)) for level in levels)
    assert not any(map(is_level_student, ("student", "baseline", "big", "student-x", *levels)))


def test_a_run_without_students_by_level_has_no_choice_on_record(tmp_path):
    run = Storage(str(tmp_path))
    assert read_chosen(run) is None
    run.write_json("evaluation/chosen.json", {"level": "a"})
    assert read_chosen(run) == {"level": "a"}


@pytest.mark.parametrize(
    ("keep", "validation", "refused"), [("best", 0, True), ("best", 1, False), ("last", 0, False), ("last", 1, False)]
)
def test_there_must_be_samples_to_choose_by(keep, validation, refused):
    choosing = ["train.students_by_level=true", "prepare.sources[0].validation_images=1", f"train.keep={keep}"]
    config, counts = load_recipe("recipes/tiny.yaml", choosing), {"train": 9, "validation": validation, "test": 9}
    if not refused:
        check_choice(config, counts)
        return
    with pytest.raises(
        ValueError,
        match=r"^train\.keep = best: chooses by the validation split, and no source has rows of it\. Bring .*, or use",
    ):
        check_choice(config, counts)
