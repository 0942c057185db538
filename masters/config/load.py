"""Recipes from YAML 1.2 files, with overrides from the command line."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from masters.config.explain import problem_of, root_causes
from masters.config.extending import EXTENDS, read_extended
from masters.config.prepare import PrepareConfig
from masters.config.problems import Problem, RecipeError
from masters.config.run import RunConfig, cross_checks
from masters.config.secrets import shown as may_be_shown
from masters.config.yaml_files import parse_yaml

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
    """The recipe as it is written, with what it extends, overrides and a name; not checked. Raises RecipeError."""
    data = read_extended(path)
    if name := _name_of(Path(path)):
        data.setdefault("name", name)
    return overridden(data, overrides, str(path))


def overridden(data: dict[str, Any], overrides: Sequence[str], shown: str) -> dict[str, Any]:
    """Plain data with fields set by their paths, which changes it; `shown` names it in errors. Raises RecipeError."""
    for override in overrides:
        _apply(data, override, shown)
    if EXTENDS in data:
        rule, remedy = "comes too late: files are laid over each other first", "Write it in the recipe."
        raise RecipeError(shown, [Problem(f"--set {EXTENDS}", data[EXTENDS], rule, remedy)])
    return data


def validate(data: dict[str, Any], shown: str = "recipe") -> RunConfig:
    """A recipe from plain data; `shown` names it in errors. Raises RecipeError."""
    try:
        config = RunConfig.model_validate_json(json.dumps(_with_absolute_paths(data), default=str))
    except ValidationError as error:
        raise RecipeError(shown, [problem_of(item, data) for item in root_causes(error.errors())]) from None
    problems = list(cross_checks(config))
    if problems:
        raise RecipeError(shown, problems)
    return config


def load_sources(path: str | Path, overrides: Sequence[str] = ()) -> tuple[PrepareConfig, str]:
    """The sources of a recipe, or of a file that holds `sources` or one source alone; and the name of the hub's token.

    Raises:
        RecipeError: with every problem found in them; the rest of a recipe is not looked at.
    """
    data = read_recipe(path, overrides)
    token = data.pop("hub_token_env", RunConfig.model_fields["hub_token_env"].default)
    if "type" in data:
        data = {"prepare": {"sources": [data]}}
    elif "prepare" not in data:
        data = {"prepare": {key: value for key, value in data.items() if key in PrepareConfig.model_fields}}
    try:
        written = json.dumps(_with_absolute_paths(data["prepare"]), default=str)
        return PrepareConfig.model_validate_json(written), str(token)
    except ValidationError as error:
        found = [{**item, "loc": ("prepare", *item["loc"])} for item in root_causes(error.errors())]
        raise RecipeError(str(path), [problem_of(item, data) for item in found]) from None


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of recipes, for editors. A file need not say its name."""
    schema = RunConfig.model_json_schema()
    required = [name for name in schema["required"] if name != "name"]
    draft = "https://json-schema.org/draft/2020-12/schema"
    base = {"type": "string", "description": "Another recipe, from this file's folder; this one is laid over it."}
    schema["properties"] = {EXTENDS: base, **schema["properties"]}
    del schema["required"]  # another recipe may have it
    alone = {"if": {"required": [EXTENDS]}, "else": {"required": required}}
    return {"$schema": draft, **schema, **alone, "title": "Masters recipe"}


def _name_of(path: Path) -> str:
    """The file's name, as a run can have it: `My Recipe (1).yaml` gives my-recipe-1. Empty where nothing is left."""
    stem = path.stem.lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", stem).lstrip("._-")[:40]
    return name if name == stem else name.strip("-")


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


def _apply(data: dict[str, Any], override: str, shown: str) -> None:
    """Set one field by its path, making mappings on the way."""
    path, equals, text = override.partition("=")
    keys = path.replace("[", ".").replace("]", "").split(".")
    if not equals or not all(keys):
        raise RecipeError(
            shown,
            [
                Problem(
                    f"--set {may_be_shown(override, override)}",
                    None,
                    "is not field.path=value",
                    "Write --set train.lr=1e-5.",
                )
            ],
        )
    value, place = parse_yaml(text, f"--set {path}"), data
    try:
        for key in keys[:-1]:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        told = may_be_shown(value, keys[-1])
        remedy = "`masters check --schema` lists the fields."
        raise RecipeError(shown, [Problem(f"--set {path}", told, "leads to no field of the recipe", remedy)]) from None
