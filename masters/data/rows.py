"""Rows as readers yield them, and the checks that turn a row into a sample or into a reject with its reason."""

import hashlib
import io
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from masters.data.images import upright_rgb

IMAGE_MARK = "<image>"
_RESERVED = re.compile(r"<\|\w+\|>")
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?\s*%?$")
_MAX_ASPECT_RATIO = 200
_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}


class RejectError(ValueError):
    """A row that cannot be used.

    Attributes:
        reason: one short sentence for all rows of the kind, which the summary counts.
        detail: what was found in this row.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class RawRow:
    """A row before any check: fields hold whatever the data held.

    A reader of one's own yields these. What a reader itself cannot make sense of goes to `problem`.

    Attributes:
        number: place of the row in its source, from 0.
        row_id: unique in the source; a string or an integer.
        question: text; `<image>` marks the place of an image. Without a mark the images come first.
        answers: a string, or a list of accepted phrasings with the label first.
        images: encoded image bytes, or paths of files.
        system: system prompt, or None.
        history: earlier questions and answers, alternating.
        answer_type: `text` or `number`.
        question_type: group of the report, free text.
        split: train, validation or test.
        problem: why the row could not be read: reason and detail.
    """

    number: int
    row_id: Any = None
    question: Any = None
    answers: Any = None
    images: Any = field(default_factory=list)
    system: Any = None
    history: Any = field(default_factory=list)
    answer_type: Any = "text"
    question_type: Any = ""
    split: Any = "train"
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class CheckedImage:
    """An image that was decoded once, whole. `name` is its place below images/, from the hash of `content`."""

    name: str
    content: bytes


def check_row(row: RawRow, source: str, max_image_pixels: int) -> tuple[dict[str, Any], list[CheckedImage]]:
    """The sample of a row, without position and levels, and its images.

    Raises:
        RejectError: with the first reason found why the row cannot be used.
    """
    if row.problem is not None:
        raise RejectError(*row.problem)
    row_id = _row_id(row.row_id)
    question = _text(row.question, "question")
    answers = _answers(row.answers)
    system = None if row.system is None else _text(row.system, "system prompt")
    history = [_text(turn, "earlier turn") for turn in _list(row.history, "history")]
    if len(history) % 2:
        raise RejectError("history is not question, answer, question, answer", f"{len(history)} turns")
    split = _choice(row.split, ("train", "validation", "test"), "split")
    answer_type = _choice(row.answer_type, ("text", "number"), "answer type")
    if answer_type == "number":
        for answer in answers:
            if not is_number(answer):
                raise RejectError("answer declared a number is none", repr(answer))
    images = [check_image(image, max_image_pixels) for image in _list(row.images, "image list")]
    marks = sum(turn.count(IMAGE_MARK) for turn in [*history[::2], question])
    if marks and marks != len(images):
        raise RejectError(
            "number of <image> marks differs from number of images", f"{marks} marks, {len(images)} images"
        )
    sample = {
        "sample_id": f"{source}/{row_id}",
        "image_ids": [image.name for image in images],
        "system": system,
        "history": history,
        "question": question,
        "answer": answers[0],
        "answers": answers,
        "answer_type": answer_type,
        "question_type": _text(row.question_type, "question type") if row.question_type else "",
        "source": source,
        "split": split,
    }
    return sample, images


def row_key(row: RawRow) -> str:
    """How a row is called in rejects: its id where it has a usable one, else its number."""
    try:
        return _row_id(row.row_id)
    except RejectError:
        return f"row {row.number}"


def is_number(text: str) -> bool:
    """Whether the text is one number: 1,234.5, -3, .5 or 40 %."""
    stripped = text.strip()
    return bool(re.search(r"\d", stripped)) and _NUMBER.match(stripped) is not None


def check_image(image: Any, max_pixels: int) -> CheckedImage:
    """Read and decode an image. Raises RejectError."""
    content = _image_bytes(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as opened:
                kind, (width, height) = opened.format, opened.size
                if width * height > max_pixels:
                    raise RejectError(
                        "image is too large", f"{width} x {height}, prepare.max_image_pixels is {max_pixels}"
                    )
                if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
                    raise RejectError("image is too long and narrow", f"{width} x {height}")
                if opened.mode == "F":
                    raise RejectError("image has floating-point pixels", "nothing says which value is white")
                upright_rgb(opened)
    except RejectError:
        raise
    except Image.UnidentifiedImageError as error:
        raise RejectError("image is of no known format", _shown(image)) from error
    except Image.DecompressionBombError as error:
        raise RejectError("image is too large", f"{_shown(image)}: {error}") from error
    except Exception as error:  # PIL's decoders meet corrupt data with errors of any kind
        raise RejectError("image is corrupt", f"{_shown(image)}: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    return CheckedImage(f"{digest[:2]}/{digest}.{_SUFFIXES.get(kind or '', 'img')}", content)


def _image_bytes(image: Any) -> bytes:
    if isinstance(image, bytes):
        content = image
    elif isinstance(image, str | os.PathLike):
        try:
            with open(image, "rb") as stream:
                content = stream.read()
        except OSError as error:
            raise RejectError("image file cannot be read", f"{os.fspath(image)!r}: {error.strerror}") from error
        except ValueError as error:  # a NUL byte, or no Unicode
            raise RejectError("image file cannot be read", f"{os.fspath(image)!r}: {error}") from error
    else:
        raise RejectError("image is neither bytes nor a path", _shown(image))
    if not content:
        raise RejectError("image is empty", _shown(image))
    return content


def _row_id(value: Any) -> str:
    if value is None or value == "":
        raise RejectError("id is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RejectError("id is neither a string nor an integer", _shown(value))
    if isinstance(value, int):
        return str(value)
    return _text(value, "id")


def _text(value: Any, what: str) -> str:
    if value is None:
        raise RejectError(f"{what} is missing")
    if not isinstance(value, str):
        raise RejectError(f"{what} is not text", _shown(value))
    if not value.strip():
        raise RejectError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RejectError(f"{what} is not valid Unicode", repr(value[max(0, error.start - 10) : error.end])) from error
    if "\x00" in value:
        raise RejectError(f"{what} holds a NUL character")
    reserved = _RESERVED.search(value)
    if reserved:
        raise RejectError(f"{what} holds a token reserved for chat templates", reserved.group())
    return value


def _answers(value: Any) -> list[str]:
    answers = [value] if isinstance(value, str) or value is None else _list(value, "answer")
    if not answers:
        raise RejectError("answer is missing")
    return [_text(answer, "answer") for answer in answers]


def _list(value: Any, what: str) -> Sequence[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return value
    raise RejectError(f"{what} is not a list", _shown(value))


def _choice(value: Any, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise RejectError(f"{what} is unknown", f"{_shown(value)}, not one of {', '.join(allowed)}")
    return value


def _shown(value: Any) -> str:
    """A short picture of a value, for details."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
