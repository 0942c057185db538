"""`train.keep: best` needs students to choose among, something to choose by, and other questions to measure with."""

import pytest

from masters.config.load import validate
from masters.config.problems import RecipeError

CHARTS = {"type": "charts", "validation_images": 3}
NO_STUDENTS = (
    "train.keep = best: chooses among the students by level, and none is written. Set train.students_by_level: true."
)
NO_ROWS = (
    "train.keep = best: chooses by the validation split, and no source has rows of it. "
    "Give charts validation_images, add a source with split: validation, or use train.keep: last."
)
SAME = (
    "evaluate.split = validation: is what train.keep best chooses by, so it would flatter the student that was chosen. "
    "Use test, or train.keep: last."
)


def files(**fields):
    return {"type": "files", "name": "mine", "path": "x.jsonl", **fields}


CASES = {
    # name: (sources, by level, keep, evaluate.split, problems)
    "the last one asks for nothing": ([{"type": "charts"}], False, "last", "validation", []),
    "by level alone neither": ([{"type": "charts"}], True, "last", "test", []),
    "charts with validation images": ([CHARTS], True, "best", "test", []),
    "charts without": ([{"type": "charts"}], True, "best", "test", [NO_ROWS]),
    "files may have any split": ([files()], True, "best", "test", []),
    "rows may say more than the recipe": ([files(split="test")], True, "best", "test", []),
    "files whose rows may not": ([files(split="test", split_field=None)], True, "best", "test", [NO_ROWS]),
    "files of that split": ([files(split="validation", split_field=None)], True, "best", "test", []),
    "names of files may say it": ([files(split_field=None)], True, "best", "test", []),
    "a reader of your own": ([{"type": "custom", "name": "mine", "reader": "m:f"}], True, "best", "test", []),
    "one source is enough": ([{"type": "charts"}, files(split="validation")], True, "best", "test", []),
    "no students": ([CHARTS], False, "best", "test", [NO_STUDENTS]),
    "the same questions twice": ([CHARTS], True, "best", "validation", [SAME]),
    "all at once": ([{"type": "charts"}], False, "best", "validation", [NO_STUDENTS, NO_ROWS, SAME]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_keeping_the_best(name):
    sources, by_level, keep, split, problems = CASES[name]
    recipe = {
        "name": "x",
        "student": {"path": "s"},
        "curriculum": [{"alias": "big", "path": "t"}],
        "prepare": {"sources": sources},
        "train": {"students_by_level": by_level, "keep": keep},
        "evaluate": {"split": split},
    }
    if not problems:
        assert validate(recipe).train.keep == keep
        return
    with pytest.raises(RecipeError) as caught:
        validate(recipe)
    assert [str(problem) for problem in caught.value.problems] == problems
