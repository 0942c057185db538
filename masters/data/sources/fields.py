"""Fields of a record: dotted paths, the usual names of questions, answers and conversations, and where its images stand."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from masters.config.prepare import RecordSource
from masters.data.rejects import RejectError

CONVERSATIONS = ("conversations", "messages", "conversation", "texts")
QUESTIONS = ("question", "problem", "instruction", "query", "prompt")
ANSWERS = (
    "answer", "multiple_choice_answer", "answers", "response", "output", "completion", "ground_truth",
    "reward_model.ground_truth", "label",
)  # fmt: skip
IMAGES = (
    "decoded_image", "image", "images", "image_path", "image_paths", "images_path", "image_file", "image_files", "img",
    "imgs", "img_path", "picture", "pictures", "photo", "photos", "pic", "image_url", "image_urls", "image_bytes",
    "image_base64", "png", "jpg", "jpeg", "webp", "file_name", "filename",
)  # fmt: skip

_NUMBERED_IMAGE = re.compile(r"(?:image|img|picture|photo)_?(\d+)", re.IGNORECASE)
_IMAGE_NAME = re.compile(r"image|img|pic|photo|figure|screenshot|file", re.IGNORECASE)
_IMAGE_FILE = re.compile(r"\.(png|jpe?g|webp|gif|bmp|tiff?)$|^data:image/", re.IGNORECASE)
_OTHER_MEDIA = re.compile(r"(video|audio)s?(_paths?|_files?|_urls?|_bytes)?", re.IGNORECASE)


def look_up(record: Mapping[str, Any], path: str) -> Any:
    """The value of a field, or of a.b inside the map a; None where there is none."""
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def has_field(record: Mapping[str, Any], path: str) -> bool:
    """Whether there is such a field, whatever its value."""
    head, _, last = path.rpartition(".")
    parent = look_up(record, head)
    return path in record or (isinstance(parent, Mapping) and last in parent)


def usual_name(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that has a value, else the first that is there at all."""
    there = [name for name in names if has_field(record, name)]
    return next((name for name in there if look_up(record, name) is not None), there[0] if there else None)


def conversation_field(record: Mapping[str, Any], source: RecordSource) -> str | None:
    """Name of the field with the turns; None where the record is a question with an answer."""
    if source.conversation is not None:
        return source.conversation
    if source.question is not None or source.choices is not None:
        return None
    name = usual_name(record, CONVERSATIONS)
    empty = name is not None and not look_up(record, name)
    return None if empty and usual_name(record, QUESTIONS) else name


def absent(value: Any) -> bool:
    """Whether the field of a row says that there is nothing: null, NaN, blank text, a map of nulls."""
    if isinstance(value, Mapping):
        return all(inner is None for inner in value.values())
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def images_of(record: Mapping[str, Any], source: RecordSource) -> tuple[list[Any], list[str]]:
    """The record's images in order, and a phrase for each field that looks like images and was not read.

    Raises:
        RejectError: where no image was found under the usual names, but another field looks like one.
    """
    if source.images is not None:
        columns = [source.images] if isinstance(source.images, str) else source.images
        return [image for column in columns for image in _values(look_up(record, column))], []
    read, images = _usual_images(record)
    others = [field for field, value in unread_images(record) if field not in read and _values(value) != images]
    if others and not images:
        raise RejectError(
            "an image stands under a name that is not read", f"name it in the recipe: images: {others[0]}"
        )
    return images, [f"images of field {field} are not used" for field in others]


def unread_images(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields whose values look like images, with their values."""
    for field, value in record.items():
        first = next(iter(_values(value)), None)
        named = isinstance(first, str) and _IMAGE_NAME.search(field) and _IMAGE_FILE.search(first)
        mapped = isinstance(first, Mapping) and {"bytes", "path"} <= first.keys()
        if isinstance(first, bytes) or mapped or named:
            yield field, value


def other_media(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """(video or audio, the field) where the record has some."""
    for field, value in record.items():
        found = _OTHER_MEDIA.fullmatch(field)
        if found and _values(value):
            return found[1].lower(), field
    return None


def encoded(image: Any) -> Any:
    """The bytes of a map {bytes, path}, else its path; anything else as it is."""
    if not isinstance(image, Mapping):
        return image
    content, path = image.get("bytes"), image.get("path")
    if isinstance(content, bytes) and content:
        return content
    return path if not content and path and isinstance(path, str) else image


def _usual_images(record: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """Names of the fields that were read, and the images."""
    for field in IMAGES:
        images = _values(record.get(field))
        if field in ("file_name", "filename"):
            images = [image for image in images if isinstance(image, str) and _IMAGE_FILE.search(image)]
        if images:
            return [field], images
    numbers = {field: int(found[1]) for field in record if (found := _NUMBERED_IMAGE.fullmatch(field))}
    columns = sorted(numbers, key=numbers.__getitem__)
    return columns, [image for column in columns for image in _values(record[column])]


def _values(value: Any) -> list[Any]:
    """The values of a field that may be a list of them; null, NaN, blank text and maps of nulls are none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [item for item in values if not absent(item)]
