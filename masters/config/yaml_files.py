"""YAML 1.2 of people's files: whatever is wrong with one is a problem with its name and the place, never a trace."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from masters.config.problems import Problem, RecipeError


def read_yaml(path: str | Path, remedy: str) -> Any:
    """A file's value; `remedy` says what to do about a file that cannot be read. Raises RecipeError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        rule = error.strerror or str(error)
    except UnicodeDecodeError as error:
        rule, remedy = f"is not UTF-8 at byte {error.start}", "Save it as UTF-8."
    else:
        return parse_yaml(text, str(path))
    raise RecipeError(str(path), [Problem("file", None, rule, remedy)])


def laid_over(below: Any, above: Any) -> Any:
    """One file's value over another's, Helm's way: maps key by key, null removes a key, everything else replaces."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    merged = {key: laid_over(below[key], value) if key in below else value for key, value in above.items()}
    return {key: value for key, value in {**below, **merged}.items() if value is not None}


def parse_yaml(text: str, shown: str) -> Any:
    """The value of a text, if JSON can hold it too; `shown` names it in errors. Raises RecipeError."""
    where, remedy = "file", "Correct it there."
    try:
        value = YAML(typ="safe", pure=True).load(text)
        json.dumps(value, default=str)  # refuses keys that are lists, and what contains itself
        return value
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else where
        rule = f"is not YAML: {error.problem}"
    except YAMLError as error:  # a character that no YAML file may hold
        rule, remedy = f"is not YAML: {str(error).splitlines()[0]}", "Take the character out."
    except RecursionError:
        rule, remedy = "contains itself, or is nested too deeply", "Write it out."
    except (TypeError, ValueError) as error:
        rule, remedy = f"cannot be used: {error}", "Use words as keys, and plain values."
    raise RecipeError(shown, [Problem(where, None, rule, remedy)])
