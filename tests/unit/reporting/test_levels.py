"""Students by level in the report: read, drawn, and told without claiming more than the questions can."""

import json
import re

import pytest

from masters.data.storage import Storage
from masters.reporting import plots
from masters.reporting.levels import LevelStudent, chosen_in_words, read_levels, tell_choice


def interval(value, n=100, low=None, high=None):
    return {
        "value": value,
        "low": value - 0.1 if low is None else low,
        "high": value + 0.1 if high is None else high,
        "n": n,
    }


LEVELS = ["big@r0.40", "big@r0.20", "big@r0.00"]
GAIN = {"value": 0.012, "low": -0.004, "high": 0.028, "n": 100}


def record(keep, level):
    folder = "train/student" if level == LEVELS[-1] else f"train/levels/{level}"
    by_level = {name: interval(0.5 + i / 10, 30) for i, name in enumerate(LEVELS)} if keep == "best" else {}
    return {"keep": keep, "level": level, "folder": folder, "by_level": by_level, "over_last": GAIN}


def students(choice, values=(0.6, 0.8, 0.7)):
    return [
        LevelStudent(level, 4 * (i + 1), interval(value), choice["by_level"].get(level), level == choice["level"])
        for i, (level, value) in enumerate(zip(LEVELS, values, strict=True))
    ]


TOLD = {
    # name: (keep, level of the run's student, accuracies, what is said, in one line and in the report)
    "the last, another is higher": ("last", LEVELS[2], (0.6, 0.8, 0.7), "kept the last one, train/student",
        "The run's student is the last one, train/student. On these questions the best of 3 is that after big@r0.20, 80.0 %: "
        "as the same questions picked it, they flatter it. train.keep: best chooses by the validation split instead, and "
        "leaves these questions to measure."),
    "the last, and it is highest": ("last", LEVELS[2], (0.6, 0.7, 0.8), "kept the last one, train/student",
        "The run's student is the last one, train/student. On these questions the best of 3 is the last one, 80.0 %: as the "
        "same questions picked it, they flatter it. train.keep: best chooses by the validation split instead, and leaves "
        "these questions to measure."),
    "the best": ("best", LEVELS[1], (0.6, 0.8, 0.7), "kept train/levels/big@r0.20, best of 3 on 30 questions of validation",
        "The run's student is the one after big@r0.20, train/levels/big@r0.20: the best of 3 on 30 questions of validation, "
        "60.0 %; the last one has 70.0 %. The best of several is flattered by the questions that picked it. Those of test "
        "picked nothing: there it has 80.0 %, a paired gain of +1.2 [-0.4, +2.8] points over the last one."),
    "the best, and it is the last": ("best", LEVELS[2], (0.6, 0.8, 0.7), "kept train/student, best of 3 on 30 questions of validation",
        "The run's student is the last one, train/student: the best of 3 on 30 questions of validation, 70.0 %. The best of "
        "several is flattered by the questions that picked it. Those of test picked nothing: there it has 70.0 %."),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_said(name):
    keep, level, values, line, sentences = TOLD[name]
    choice = record(keep, level)
    assert chosen_in_words(choice) == line
    assert " ".join(tell_choice(students(choice, values), choice, "test")) == sentences


def test_they_are_read_in_order_of_training_with_the_steps_behind_them(tmp_path):
    run, choice = Storage(str(tmp_path)), record("best", LEVELS[1])
    assert read_levels(run, LEVELS) == []
    rows = [{"step": step, "level": LEVELS[step // 4]} for step in range(12)]
    run.write("train/metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    for level, value in zip(LEVELS, (0.6, 0.8, 0.7), strict=True):
        run.write_json(f"evaluation/student@{level}/scores.json", {"accuracy": interval(value)})
    run.write_json("evaluation/chosen.json", choice)
    assert read_levels(run, LEVELS) == students(choice)
    assert [student.steps for student in read_levels(run, LEVELS)] == [4, 8, 12]


@pytest.mark.parametrize(("keep", "series"), [("last", 1), ("best", 2)])
def test_accuracies_are_drawn_beside_the_mask_ratio(keep, series):
    choice = record(keep, LEVELS[2])
    drawn = plots.by_level(students(choice), interval(0.4), [0.4] * 4 + [0.2] * 4 + [0.0] * 4, "test")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    accuracies = [text for text in texts if re.fullmatch(r"accuracy, [\d,]+ questions of \w+", text)]
    assert accuracies == ["accuracy, 100 questions of test", "accuracy, 30 questions of validation"][:series]
    assert {"mask ratio r", "the run's student"} <= set(texts)
    assert drawn == plots.by_level(students(choice), interval(0.4), [0.4] * 4 + [0.2] * 4 + [0.0] * 4, "test")
    other = plots.by_level(students(choice), interval(0.4), [0.4] * 12, "test")
    assert other != drawn
