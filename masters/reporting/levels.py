"""Students by level: their accuracies, and in words which one is the run's and what may be said about it."""

from dataclasses import dataclass
from typing import Any

from masters.data.metrics import read_metrics
from masters.data.storage import Storage
from masters.data.students import best_level, level_student, read_chosen
from masters.reporting.statistics import Interval


@dataclass(frozen=True)
class LevelStudent:
    """The student at the end of a level.

    Attributes:
        level: its name.
        steps: steps of training behind it.
        accuracy: interval on the questions of `evaluate.split`, as in scores.json.
        validation: interval on the validation split; None where that chose nothing.
        chosen: whether it is the run's student.
    """

    level: str
    steps: int
    accuracy: dict[str, Any]
    validation: dict[str, Any] | None
    chosen: bool


def read_levels(run: Storage, levels: list[str]) -> list[LevelStudent]:
    """Students of a finished evaluation; `levels` in order of training. Empty where the recipe keeps none by level."""
    record = read_chosen(run)
    if record is None:
        return []
    steps = {row["level"]: row["step"] + 1 for row in read_metrics(run)}
    return [
        LevelStudent(
            level,
            steps[level],
            run.read_json(f"evaluation/{level_student(level)}/scores.json")["accuracy"],
            record["by_level"].get(level),
            level == record["level"],
        )
        for level in levels
    ]


def chosen_in_words(record: dict[str, Any]) -> str:
    """The run's student in one line, from `evaluation/chosen.json`."""
    if record["keep"] == "last":
        return f"kept the last one, {record['folder']}"
    accuracies = record["by_level"]
    questions = accuracies[record["level"]]["n"]
    return f"kept {record['folder']}, best of {len(accuracies)} on {questions:,} questions of validation"


def tell_choice(students: list[LevelStudent], record: dict[str, Any], split: str) -> list[str]:
    """Sentences for the report; `split` is that of the evaluation."""
    mine, last = next(student for student in students if student.chosen), students[-1]
    which = "the last one" if mine is last else f"the one after {mine.level}"
    if record["keep"] == "last":
        level = best_level({student.level: student.accuracy["value"] for student in students})
        best = next(student for student in students if student.level == level)
        return [
            f"The run's student is the last one, {record['folder']}.",
            f"On these questions the best of {len(students)} is {'the last one' if best is last else 'that after ' + level}, "
            f"{_percent(best.accuracy)}: as the same questions picked it, they flatter it.",
            "train.keep: best chooses by the validation split instead, and leaves these questions to measure.",
        ]
    assert mine.validation is not None
    assert last.validation is not None
    return [
        f"The run's student is {which}, {record['folder']}: the best of {len(students)} on "
        f"{mine.validation['n']:,} questions of validation, {_percent(mine.validation)}"
        + ("." if mine is last else f"; the last one has {_percent(last.validation)}."),
        f"The best of several is flattered by the questions that picked it. Those of {split} picked nothing: there it has "
        f"{_percent(mine.accuracy)}"
        + (
            "."
            if mine is last
            else f", a paired gain of {Interval(**record['over_last']).in_points} points over the last one."
        ),
    ]


def _percent(interval: dict[str, Any]) -> str:
    return f"{100 * interval['value']:.1f} %"
