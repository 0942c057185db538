"""Where students lie in a run directory: the last one, one for each level where the recipe asks for it, and which is the run's.

`train/student` is what training ended with, whatever the recipe keeps. `train/levels/<level>` are the students at the ends of
the levels, the last one among them. The one that `train.keep` decides on is a finding of evaluate, which has an engine to ask
them with: it is recorded in `evaluation/chosen.json`, and no weight is copied. So an artifact of train is never changed by a
later stage, another harness or another `keep` trains nothing again, and a choice is set aside and taken back with the scores
that it was made by.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from masters.config.run import RunConfig
from masters.data.storage import Storage

LAST = "train/student"
LEVELS = "train/levels"
CHOSEN = "evaluation/chosen.json"
VALIDATION = "validation"
_AFTER = "student@"


def all_levels(config: RunConfig) -> tuple[str, ...]:
    """Levels of all teachers in the order of training."""
    return tuple(name for index in range(len(config.curriculum)) for name in config.levels(index))


def level_folder(level: str) -> str:
    """The student at the end of a level, in the run directory."""
    return f"{LEVELS}/{level}"


def level_student(level: str) -> str:
    """What evaluate calls the student at the end of a level: `student@big@r0.20`; no teacher's alias holds an @."""
    return f"{_AFTER}{level}"


def is_level_student(name: str) -> bool:
    """Whether a model of the evaluation is the student at the end of a level."""
    return name.startswith(_AFTER)


def best_level(accuracies: Mapping[str, float]) -> str:
    """The level with the highest accuracy; of equal ones the one that was trained longest. Levels in order of training."""
    levels: Sequence[str] = list(accuracies)
    return max(reversed(levels), key=lambda level: accuracies[level])


def read_chosen(run: Storage) -> dict[str, Any] | None:
    """The record of the run's student; None where the recipe keeps no students by level.

    keep (`last` or `best`), level, folder (in the run directory), by_level: for `best` the interval of each level's accuracy on
    the validation split, and over_last: that of its paired gain over the last student on the questions of `evaluate.split`.
    """
    return run.read_json(CHOSEN) if run.exists(CHOSEN) else None


def check_choice(config: RunConfig, counts: Mapping[str, Any]) -> None:
    """Raise ValueError where there is nothing to choose a student by; `counts` are those of prepare."""
    if config.train.keep == "best" and not counts[VALIDATION]:
        raise ValueError(
            "train.keep = best: chooses by the validation split, and no source has rows of it. Bring some (charts: "
            "validation_images; other sources: split: validation), or use train.keep: last."
        )
