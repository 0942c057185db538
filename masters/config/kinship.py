"""Are student and teachers of one family? Said before anything is fetched, as far as names and config.json tell."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from masters.config.problems import Problem
from masters.families.released import RELEASED, Released, known, other_layout

_SAME_TOKENS = {"qwen3_vl_moe": "qwen3_vl"}
"""Families whose models have the tokens and the image processor of another."""


def family_problems(student: str, teachers: Sequence[str]) -> Iterator[Problem]:
    """Models in a layout that is not read, and teachers that cannot teach the student.

    Args:
        student: its path: a folder, or a name on the hub. One whose family nobody here knows is let through: `mask` looks again.
        teachers: those of the curriculum, in its order.
    """
    places = {"student.path": student, **{f"curriculum[{i}].path": path for i, path in enumerate(teachers)}}
    for field, path in places.items():
        if other := None if Path(path).is_dir() else other_layout(path):
            rule = "is in OpenGVLab's own layout, which runs code from the hub"
            yield Problem(field, path, rule, f"Use the Hugging Face layout: {other.name}.")
    own = _family(student)
    for field, path in places.items():
        theirs = _family(path)
        if own is None or theirs is None or _alike(own, theirs):
            continue
        told, of_student = (name or kind for kind, name in (theirs, own))
        rule = (
            f"is of {told} and the student of {of_student}: their tokens and image processors differ, and a teacher's "
            "probabilities are compared with the student's token by token"
        )
        yield Problem(field, path, rule, f"Take a teacher of {of_student}{_such(own)}.")


def _family(path: str) -> tuple[str, str] | None:
    """How its tokens are called here; and the series, where the name on the hub tells it. None where nothing is known."""
    if (model := None if Path(path).is_dir() else known(path)) is not None:
        return _SAME_TOKENS.get(model.family, model.family), model.series
    try:
        kind = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (_SAME_TOKENS.get(kind, kind), "") if isinstance(kind, str) else None


def _alike(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Series are compared where both are known."""
    return one[0] == other[0] and (one[1] == other[1] or "" in (one[1], other[1]))


def _such(family: tuple[str, str]) -> str:
    """Models that may teach a student of the family, the largest first."""

    def fits(model: Released) -> bool:
        return _alike(family, (_SAME_TOKENS.get(model.family, model.family), model.series))

    found = sorted(filter(fits, RELEASED.values()), key=lambda model: -model.size.parameters)
    return f": {', '.join(model.name for model in found[:3])}" if found else ""
