"""Circular group: a question is right where it is right in every rotation of its options."""

from collections.abc import Mapping, Sequence

from masters.benchmarks.questions import ROTATED_BY, Question


def groups(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Rows of each question, in the order of the file."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.group, []).append(question)
    return found


def broken_groups(questions: Sequence[Question]) -> list[str]:
    """Questions that have not one row for each of their options: i, i + 1,000,000, ..."""
    return [name for name, rows in groups(questions).items() if not _is_whole(rows)]


def group_values(questions: Sequence[Question], values: Mapping[str, float]) -> dict[str, float]:
    """1 for each question of which all rows are right, else 0; `values` are those of rows, by index."""
    return {name: min(values[row.index] for row in rows) for name, rows in groups(questions).items()}


def _is_whole(rows: Sequence[Question]) -> bool:
    rotations = sorted(int(row.index) // ROTATED_BY for row in rows)
    return all(len(row.options) == len(rows) for row in rows) and rotations == list(range(len(rows)))
