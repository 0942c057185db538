"""Marks of images in text: `<image>` in its many spellings, with numbers and paths, put into one spelling and order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masters.data.rejects import RejectError, shown
from masters.data.rows import IMAGE_MARK

_MARK = re.compile(
    r"<img>\s*<ImageHere>\s*</img>"
    r"|<img>(?P<path>[^<>\n]+)</img>"
    r"|<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>|<\|image_pad\|>"
    r"|<\|?image[ _]?(?P<number>\d+)\|?>"
    r"|<\|?image\|?>|<ImageHere>|<image_placeholder>|(?-i:\[IMG\])",
    re.IGNORECASE,
)
_MARK_LIKE = re.compile(
    r"<[^<>\n]{0,40}?(?:image|img|picture)[^<>\n]{0,40}>|\[(?:image|img|picture)\W?\d*\]", re.IGNORECASE
)
_PICTURE_WORDS = re.compile(r"\b(?:picture|image)[ -]?\d+\s?:", re.IGNORECASE)
_OTHER_MEDIA = re.compile(r"<\|?(video|audio)(?:_pad|_placeholder|[ _]?\d+)?\|?>", re.IGNORECASE)


@dataclass(frozen=True)
class Mark:
    """The place of an image in a question.

    Attributes:
        number: which of the record's images, from 1; None: the next one.
        path: path or address of the image, as the mark names it.
        image: the image itself, where its bytes stand in the content.
    """

    number: int | None = None
    path: str | None = None
    image: Any = None


Piece = str | Mark


class Marked(tuple[Piece, ...]):
    """A text that was split at its marks."""


def parse(text: str) -> Marked:
    """The text between marks, and the marks. Raises RejectError for marks of video and audio."""
    other = _OTHER_MEDIA.search(text)
    if other:
        raise RejectError(f"{other[1].lower()} is not supported", shown(other[0]))
    pieces: list[Piece] = []
    end = 0
    for found in _MARK.finditer(text):
        if found.start() > end:
            pieces.append(text[end : found.start()])
        number, path = found["number"], found["path"]
        pieces.append(Mark(int(number) if number else None, path.strip() if path else None))
        end = found.end()
    return Marked([*pieces, text[end:]] if end < len(text) else pieces)


def odd_marks(pieces: Iterable[Piece]) -> list[str]:
    """A phrase for each kind of mark that is not known and stays text; digits are N, attributes are left out."""
    found = {mark[0] for piece in pieces if isinstance(piece, str) for mark in _MARK_LIKE.finditer(piece)}
    kinds = {re.sub(r"\d+", "N", re.sub(r"^(<\S+)\s.*>$", r"\1 ...>", mark)) for mark in found}
    return [f"unknown image mark {kind}" for kind in sorted(kinds)]


def names_pictures(pieces: Iterable[Piece]) -> bool:
    """Whether words such as `Picture 1:` stand in the text."""
    return any(isinstance(piece, str) and _PICTURE_WORDS.search(piece) for piece in pieces)


def place_images(questions: Sequence[Any], images: Sequence[Any]) -> tuple[list[tuple[Any, list[Any]]], list[str]]:
    """Bring marks and images of one record into one order.

    Args:
        questions: of each turn, its text; anything that is not Marked is no text, and passes through.
        images: of the record, in its order.

    Returns:
        Of each turn, the question with `<image>` for its marks and the images of the marks up to it; all images for every
        turn where there is no mark at all. A mark that names an image again becomes words: `image 2`. And phrases about
        what is odd.

    Raises:
        RejectError: where marks and images are not equally many.
    """
    marks = [
        piece for question in questions if isinstance(question, Marked) for piece in question if isinstance(piece, Mark)
    ]
    if not marks:
        return [("".join(map(str, q)) if isinstance(q, Marked) else q, list(images)) for q in questions], []
    first = 0 if any(mark.number == 0 for mark in marks) else 1
    waiting = dict(enumerate(images, first))
    placed: list[Any] = []
    places: dict[Any, int] = {}
    notes: list[str] = []
    turns: list[tuple[Any, int]] = []
    missing = 0
    for question in questions:
        text = "" if isinstance(question, Marked) else question
        for piece in question if isinstance(question, Marked) else ():
            if isinstance(piece, str):
                text += piece
                continue
            key, image = _image_of(piece, images, waiting, notes, first)
            if key is not None and key in places:
                text += f"image {places[key]}"
                continue
            text += IMAGE_MARK
            if image is None:
                missing += 1
                continue
            placed.append(image)
            places[key] = len(placed)
            waiting.pop(key, None)
        turns.append((text, len(placed)))
    if missing or waiting:
        raise RejectError(
            "number of <image> marks differs from number of images",
            f"{len(placed) + missing} marks, {len(placed) + len(waiting)} images",
        )
    return [(text, placed[:count]) for text, count in turns], notes


def _image_of(
    mark: Mark, images: Sequence[Any], waiting: dict[Any, Any], notes: list[str], first: int
) -> tuple[Any, Any]:
    """What tells the mark's image from others, and the image; (key, None) where it was placed before or is not there."""
    if mark.image is not None:
        return object(), mark.image
    key: Any = mark.number
    if mark.path is not None:
        if not images:
            return object(), mark.path
        named = [number for number, image in enumerate(images, first) if _file_name(image) == _file_name(mark.path)]
        key = next((number for number in named if number in waiting), named[0] if named else None)
        if not named:
            notes.append("an image mark names another file than the images of the record")
    if key is None:
        key = next(iter(waiting), None)
    return key, waiting.get(key)


def _file_name(image: Any) -> str | None:
    path = image.get("path") if isinstance(image, Mapping) else image
    return re.split(r"[/\\]", path)[-1] if isinstance(path, str) else None
