"""A recipe's limits of images, and what they change in the image processor of a model folder. Without torch."""

import json
from pathlib import Path
from typing import Any

from masters.config.images import ImagesConfig
from masters.config.run import RunConfig
from masters.families import FAMILIES, Family
from masters.families.released import known
from masters.models.folder import family_of, resolve

_WHOLE, _IMAGES = "processor_config.json", "preprocessor_config.json"


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON file of a model folder; empty where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def own_settings(folder: Path) -> dict[str, Any]:
    """Settings of the processor and, before them, of its image processor, from either of the two files that hold these."""
    whole = read_settings(folder / _WHOLE)
    return {**whole, **(whole.get("image_processor") or read_settings(folder / _IMAGES))}


def changed_settings(folder: Path, family: Family, images: ImagesConfig) -> dict[str, Any]:
    """What the limits change in the settings of the folder's image processor; None takes a setting away.

    Raises:
        ValueError: for limits that the model does not take.
    """
    return family.image_settings(images.given, own_settings(folder))


def write_limits(folder: Path, family: Family, images: ImagesConfig) -> None:
    """Into the file of a model folder that has the settings of its image processor; nothing else is changed there."""
    changes = changed_settings(folder, family, images)
    if not changes:
        return
    file, content = folder / _WHOLE, read_settings(folder / _WHOLE)
    settings = content.get("image_processor")
    if not settings:
        file = folder / _IMAGES
        content = settings = read_settings(file)
    for name, value in changes.items():
        settings.pop(name, None)
        if value is not None:
            settings[name] = value
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def known_family(path: str) -> Family | None:
    """The family of a model that is a folder here, or that is on the hub and known by its name; else None."""
    if Path(path).is_dir():
        return family_of(Path(path))
    found = known(path)
    return FAMILIES[found.family] if found else None


def check_limits(config: RunConfig, *, fetch: bool) -> None:
    """Raise ValueError where student or teachers do not take the recipe's limits of images.

    Args:
        config: the recipe.
        fetch: get the settings of models that are not here from the hub; else no more than their family is looked at, where
            it is known.
    """
    if not config.images.given:
        return
    for model in (config.student, *config.curriculum):
        here = fetch or Path(model.path).is_dir()
        try:
            if here:
                folder = resolve(model.path, config.hub_token_env, weights=False, mirror=config.hub_mirror)
                changed_settings(folder, family_of(folder), config.images)
            elif family := known_family(model.path):
                family.check_limits(config.images.given)
        except ValueError as error:
            raise ValueError(f"{model.path}: {error}") from error
