"""How large the models of a recipe are: a folder by its files, a name on the hub by the table of released ones."""

import json
from pathlib import Path

from masters.config.run import RunConfig
from masters.config.score import ModelJudge
from masters.families.released import released
from masters.families.sizes import NO_TOWER, Decoder, ModelSize, size_of
from masters.models.folder import parameter_count
from masters.planning.workload import Sizes

LEAST = ModelSize(Decoder(1, 1, 1, 1, 1, 1, 1, tied=True), NO_TOWER)
"""Of a model of which nothing is known."""


def recipe_sizes(config: RunConfig) -> Sizes:
    """Of all models of a recipe. Raises ValueError for one that is neither here nor in the table."""
    student, teachers, judge = _paths(config)
    return Sizes(size_at(student), tuple(map(size_at, teachers)), size_at(judge) if judge else None)


def known_sizes(config: RunConfig) -> tuple[Sizes, list[str]]:
    """Of the models that are here or in the table, LEAST of the others; and the paths of those."""
    student, teachers, judge = _paths(config)
    found: dict[str, ModelSize] = {}
    unknown = []
    for path in filter(None, dict.fromkeys((student, *teachers, judge))):
        try:
            found[path] = size_at(path)
        except ValueError:
            found[path] = LEAST
            unknown.append(path)
    return Sizes(found[student], tuple(found[path] for path in teachers), found[judge] if judge else None), unknown


def size_at(path: str) -> ModelSize:
    """Of a folder from its files' headers, of a name on the hub from the table. Raises ValueError."""
    folder = Path(path)
    if not folder.is_dir():
        return released(path).size
    try:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: has no config.json that can be read, so it is no Hugging Face model folder"
        ) from error
    return size_of(written, parameter_count(folder))


def _paths(config: RunConfig) -> tuple[str, list[str], str]:
    """Of student, teachers, and of a judge that has a model of its own; empty where it has none."""
    judge = config.score.judge.path if isinstance(config.score.judge, ModelJudge) else ""
    return config.student.path, [teacher.path for teacher in config.curriculum], judge
