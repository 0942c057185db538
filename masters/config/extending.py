"""Recipes over others: `extends: base.yaml` takes all of that file and lays the rest of this one over it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from masters.config.problems import Problem, RecipeError
from masters.config.yaml_files import laid_over, read_yaml

EXTENDS = "extends"
_REMEDY = "Try `masters init my.yaml`."


def read_extended(path: str | Path) -> dict[str, Any]:
    """The fields of a recipe, and of those that it extends: mappings are merged, lists and values replaced, null is left out.

    A base need not be whole, and its name is not handed on: two recipes over it are two runs.

    Raises:
        RecipeError: where one of the files is not there, is no recipe, or extends itself in the end.
    """
    return _read(Path(path), ())


def recipe_text(path: Path) -> str:
    """A recipe as one file, for whoever gets only one: its own text, or what it is together with those that it extends."""
    if EXTENDS not in (read_yaml(path, _REMEDY) or ()):
        return path.read_text(encoding="utf-8")
    stream = io.StringIO()
    yaml = YAML()
    yaml.dump(read_extended(path), stream)
    return f"# {path.name}, with what it extends\n{stream.getvalue()}"


def _read(path: Path, above: Sequence[Path]) -> dict[str, Any]:
    """`above` are the files that led here, the recipe first."""
    data = read_yaml(path, _REMEDY)
    if not isinstance(data, dict):
        raise RecipeError(str(path), [Problem("file", None, "is not a mapping of fields", _REMEDY)])
    if EXTENDS not in data:
        return data
    base = data.pop(EXTENDS)
    if not isinstance(base, str) or not base.strip():
        raise _refused(path, base, "is not the name of a recipe", "Write one file, as extends: base.yaml.")
    file, chain = path.parent / base, (*above, path)
    if not file.is_file():
        where = f"there is no such file in {path.parent.resolve()}"
        raise _refused(path, base, where, "Name a recipe by its path from the folder of this one.")
    if file.resolve() in [other.resolve() for other in chain]:
        way = " -> ".join(other.name for other in (*chain, file))
        raise _refused(path, base, f"extends itself in the end: {way}", "Take one of them out.")
    below = _read(file, chain)
    below.pop("name", None)
    merged: dict[str, Any] = laid_over(below, data)
    return merged


def _refused(path: Path, base: object, rule: str, remedy: str) -> RecipeError:
    return RecipeError(str(path), [Problem(EXTENDS, base, rule, remedy)])
