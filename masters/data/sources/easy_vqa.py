"""easy-VQA: 5,000 images of one shape each and 48,248 questions, as the package `easy-vqa` ships them (Victor Zhou, MIT).

A reader for `type: custom`. The package's test split is the test split; validation is cut from its train split by images, so
that no image is in two splits. Ids say where a question stands in the package, whatever the options are.
"""

import importlib.util
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masters.data.rows import RawRow
from masters.data.storage import Storage

PACKAGE = "easy-vqa==1.0"


def rows(
    folder: str = "", seed: int = 0, validation_images: int = 300, skip_images: int = 0, train_images: int | None = None
) -> Iterator[RawRow]:
    """Rows of the train file, then those of the test file, in their order; questions of images that are not wanted are left out.

    Args:
        folder: `data` of the package, here or in an object store; where empty, that of the installed package.
        seed: of the order of the train images; the first ones are the validation split.
        validation_images: how many.
        skip_images: how many behind them are in no split.
        train_images: how many behind these are the train split; None for all that are left.

    Raises:
        ValueError: where the data are not there, or have fewer images than the options ask for.
    """
    root = _root(folder)
    asked = {official: _questions(root, official) for official in ("train", "test")}
    images = sorted({image for *_, image in asked["train"]})
    random.Random(f"easy-vqa/{seed}").shuffle(images)
    splits = _splits(images, validation_images, skip_images, train_images)
    number = 0
    for official, questions in asked.items():
        places: Counter[int] = Counter()
        for text, answer, image in questions:
            place, split = places[image], splits.get(image) if official == "train" else "test"
            places[image] += 1
            if split is None:
                continue
            yield RawRow(
                number=number,
                row_id=f"{official}-{image:04d}-{place:02d}",
                question=text,
                answers=[answer],
                images=[f"{official}/images/{image}.png"],
                question_type=question_type(text),
                split=split,
                folder=root.uri,
            )
            number += 1


def question_type(text: str) -> str:
    """Of a question: colour, shape, or whether something is `present` or, asked with a negation, `absent`."""
    words = text.lower().split()
    if words[0] == "what":
        return "colour" if "color" in words else "shape"
    return "absent" if {"not", "no"} & set(words) else "present"


def _root(folder: str) -> Storage:
    if folder:
        if "://" not in folder and not os.path.isabs(folder):
            raise ValueError(f"options.folder = {folder}: is relative, and workers run elsewhere. Write it from / on.")
        return Storage(folder)
    found = importlib.util.find_spec("easy_vqa")
    if found is None or found.origin is None:
        raise ValueError(
            f"reader: the package easy-vqa is not installed here. `.venv/bin/uv pip install {PACKAGE}`, on a cluster in the "
            "image; or name a copy of its folder easy_vqa/data in options.folder."
        )
    return Storage(str(Path(found.origin).parent / "data"))


def _questions(root: Storage, official: str) -> list[Any]:
    """Question, answer and number of the image, of each row of the package's file."""
    name = f"{official}/questions.json"
    if not root.exists(name):
        raise ValueError(f"options.folder = {root.uri}: has no {name}. Name the folder easy_vqa/data of the package.")
    try:
        read: list[Any] = root.read_json(name)
    except ValueError as error:
        raise ValueError(
            f"options.folder = {root.uri}: {name} is no JSON: {error}. Install the package again."
        ) from error
    return read


def _splits(images: list[int], validation: int, skip: int, train: int | None) -> dict[int, str]:
    """Split by image; an image that is in none is left out."""
    left = len(images) - validation - skip
    for option, value in (("validation_images", validation), ("skip_images", skip), ("train_images", train)):
        if value is not None and value < 0:
            raise ValueError(f"options.{option} = {value}: is less than 0. Use 0 or more.")
    if left < max(1, train or 0):
        wanted = f"validation_images {validation} + skip_images {skip} + train_images {max(1, train or 0)}"
        raise ValueError(f"options: {wanted} are more than the {len(images):,} images of the train split. Use less.")
    first = validation + skip
    taken = images[first:] if train is None else images[first : first + train]
    return dict.fromkeys(images[:validation], "validation") | dict.fromkeys(taken, "train")
