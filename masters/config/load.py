"""Recipes from YAML 1.2 files, with overrides from the command line."""

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from masters.config.problems import Problem, RecipeError
from masters.config.run import RunConfig, cross_checks

PATHS = {"path", "image_root"}
"""Fields that may name a file or folder."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, override and check a recipe. A recipe without `name` is named after its file.

    Args:
        path: a YAML 1.2 file.
        overrides: `field.path=value` with a YAML value, for example `train.lr=1e-5` or `curriculum[0].r_max=0.4`.

    Raises:
        RecipeError: with every problem found; nothing has been started.
    """
    return validate(read_recipe(path, overrides), str(path))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The recipe as it is written, with overrides and a name; not checked. Raises RecipeError."""
    shown = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            shown, [Problem("file", None, error.strerror or str(error), "Try `masters init my.yaml`.")]
        ) from error
    data = _parse(text, shown)
    if not isinstance(data, dict):
        raise RecipeError(shown, [Problem("file", None, "is not a mapping of fields", "Try `masters init my.yaml`.")])
    data.setdefault("name", Path(path).stem.lower())
    for override in overrides:
        _apply(data, override, shown)
    return data


def validate(data: dict[str, Any], shown: str = "recipe") -> RunConfig:
    """A recipe from plain data; `shown` names it in errors. Raises RecipeError."""
    try:
        config = RunConfig.model_validate_json(json.dumps(_with_absolute_paths(data), default=str))
    except ValidationError as error:
        raise RecipeError(shown, [_problem(item, data) for item in _root_causes(error.errors())]) from None
    problems = list(cross_checks(config))
    if problems:
        raise RecipeError(shown, problems)
    return config


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of recipes, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Masters recipe",
        **RunConfig.model_json_schema(),
    }


def _with_absolute_paths(data: Any) -> Any:
    """Paths that exist here, made absolute: tasks and actors run in other folders."""
    if isinstance(data, list):
        return [_with_absolute_paths(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: os.path.abspath(value)
        if key in PATHS and isinstance(value, str) and value and os.path.exists(value)
        else _with_absolute_paths(value)
        for key, value in data.items()
    }


def _parse(text: str, shown: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
        raise RecipeError(shown, [Problem(where, None, f"is not YAML: {error.problem}", "")]) from None


def _apply(data: dict[str, Any], override: str, shown: str) -> None:
    """Set one field by its path, making mappings on the way."""
    path, equals, text = override.partition("=")
    keys = path.replace("[", ".").replace("]", "").split(".")
    if not equals or not all(keys):
        raise RecipeError(
            shown,
            [Problem(f"--set {override}", None, "is not field.path=value", "Write --set train.lr=1e-5.")],
        )
    value, place = _parse(text, f"--set {path}"), data
    try:
        for key in keys[:-1]:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        raise RecipeError(shown, [Problem(f"--set {path}", value, "leads to no field of the recipe", "")]) from None


def _root_causes(errors: Sequence[Any]) -> Iterator[Any]:
    """Without complaints about a list that is too short only because its items were refused."""
    for error in errors:
        inside = [other for other in errors if other["loc"][: len(error["loc"])] == error["loc"] and other is not error]
        if not (error["type"] == "too_short" and inside):
            yield error


def _problem(error: Any, data: Any) -> Problem:
    """A pydantic error in our own words."""
    path, value = _locate(error["loc"], data)
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return Problem(path, None, "is required", "Add it; `masters check --schema` describes every field.")
    if kind == "extra_forbidden":
        known = list(_known_fields(error["loc"][:-1]))
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        return Problem(path, _short(value), "is not a field of a recipe", remedy)
    if path.endswith("_env"):
        return Problem(
            path,
            None,
            "must be the NAME of an environment variable; the value given is not shown",
            "Write HF_TOKEN, say.",
        )
    rule, _, remedy = message.partition(". ")
    return Problem(path, _short(value), rule[0].lower() + rule[1:], remedy)


def _locate(location: Sequence[str | int], data: Any) -> tuple[str, Any]:
    """The path as people write it, and the value there. Tags of unions, which pydantic adds, are left out."""
    path = ""
    for key in location:
        if isinstance(key, int):
            path, data = f"{path}[{key}]", data[key] if isinstance(data, list) and key < len(data) else None
        elif isinstance(data, dict) and key not in data and data.get("type") == key:
            continue
        else:
            path, data = f"{path}.{key}" if path else key, data.get(key) if isinstance(data, dict) else None
    return path, data


def _short(value: object) -> object:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_fields(location: Sequence[str | int]) -> Iterator[str]:
    """Names of the fields of the section at a location, from the schema."""
    schema = RunConfig.model_json_schema()
    node: dict[str, Any] = schema
    for key in location:
        node = node["items"] if isinstance(key, int) else node.get("properties", {}).get(key, node)
        if "discriminator" in node and isinstance(key, str):
            node = {"$ref": node["discriminator"]["mapping"].get(key, "")}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return iter(node.get("properties", {}))
