"""Rows as readers yield them, and the checks that turn a row into a sample or into a reject with its reason."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from masters.config.prepare import RecordSource, RowDefaults, Source
from masters.data.image_files import ImageReader
from masters.data.images import CheckedImage
from masters.data.mixing import with_suffix
from masters.data.rejects import RejectError, SkipRow, shown
from masters.data.splits import SKIP, known_split
from masters.families import FAMILIES, Family

IMAGE_MARK = "<image>"
_RESERVED = re.compile(r"<\|\w+\|>")
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?\s*%?$")
_INTEGER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.0+)?$")
_ANSWER_TYPES = {
    **dict.fromkeys(("text", "string", "str", "list", "yesno"), "text"),
    **dict.fromkeys(("number", "numeric", "float"), "number"),
    **dict.fromkeys(("integer", "int"), "integer"),
    **dict.fromkeys(("choice", "choices", "multiplechoice", "multichoice"), "choice"),
}
_BLANKS_NOTE = "answer has blanks around it"


@dataclass(frozen=True)
class Reserved:
    """Tokens that are no text: such as `<|word|>` but for those that are allowed, and others that are never allowed."""

    never: frozenset[str]
    allowed: Sequence[str] = ()

    @classmethod
    def of(cls, family: Family | None, allowed: Sequence[str] = ()) -> "Reserved":
        """Never allowed is what the family makes prompts of. Where it is not known, what any makes them of that is no word
        of people: `<img>` may be HTML."""
        if family is not None:
            return cls(frozenset(_of_prompts(family)), allowed)
        every = {token for known in FAMILIES.values() for token in _of_prompts(known)}
        return cls(frozenset(filter(_RESERVED.fullmatch, every)), allowed)

    def found_in(self, text: str) -> str | None:
        """The first one in a text."""
        found = [match[0] for match in _RESERVED.finditer(text) if match[0] not in self.allowed]
        found += [token for token in self.never if token in text]
        return min(found, key=text.find, default=None)


def _of_prompts(family: Family) -> Sequence[str]:
    return (family.end_of_turn, *family.vision_tokens, *_RESERVED.findall(family.image_placeholder))


_ANY = Reserved.of(None)


@dataclass(frozen=True)
class RawRow:
    """A row before any check: fields hold whatever the data held.

    A reader of one's own yields these, or mappings of their fields. What a reader itself cannot make sense of goes to
    `problem`.

    Attributes:
        number: place of the row in its part of the source, from 0.
        row_id: unique in the source's split; a string, an integer, or a float that is whole.
        question: text; `<image>` marks the place of an image. Without a mark the images come first.
        answers: a string or a number, or a list of accepted phrasings with the label first.
        images: encoded image bytes, PIL images, paths or addresses of files, base64, data URIs, or {bytes, path, url}.
        system: system prompt; None or empty for none.
        history: earlier questions and answers, alternating.
        options: texts of the options in order, for multiple choice; None otherwise. The question lists them already.
        answer_type: text, number, integer or choice, or a usual name of one of these.
        question_type: group of the report, free text.
        split: train, validation or test, or a usual name of one of these.
        folder: folder or address that relative image paths start from, where the source has no `image_root`.
        problem: why the row could not be read: reason and detail.
        notes: what is odd about the row and did not stop it, one phrase for all rows of a kind; the summary counts them.
    """

    number: int
    row_id: Any = None
    question: Any = None
    answers: Any = None
    images: Any = field(default_factory=list)
    system: Any = None
    history: Any = field(default_factory=list)
    options: Any = None
    answer_type: Any = "text"
    question_type: Any = ""
    split: Any = "train"
    folder: str = ""
    problem: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()


def check_row(
    row: RawRow, source: Source, images: ImageReader, family: Family | None = None
) -> tuple[dict[str, Any], list[CheckedImage]]:
    """The sample of a row, without position and levels, and its images in order.

    The sample has the columns of the samples table from sample_id to split, and `options` (a list of texts, or None) and
    `notes` (what is odd about the row, a list of phrases). `family` is the student's, where it is known: texts must not
    hold what its prompts are made of.

    Raises:
        RejectError: with the first reason found why the row cannot be used.
        SkipRow: where the source's `splits` leave out the row's split.
        OSError: where an object store does not answer.
    """
    split = split_of(row.split, source)
    if row.problem is not None:
        raise RejectError(*row.problem)
    reserved = Reserved.of(family, source.allow_tokens if isinstance(source, RowDefaults) else ())
    row_id = _row_id(row.row_id)
    question = _text(_plain(row.question), "question", reserved)
    answer_type = _answer_type(row.answer_type, source)
    answers, notes = _answers(row.answers, answer_type, reserved)
    history = [
        _text(_written(turn) if place % 2 else _plain(turn), "earlier turn", reserved)
        for place, turn in enumerate(_list(row.history, "history"))
    ]
    if len(history) % 2:
        raise RejectError("history is not question, answer, question, answer", f"{len(history)} turns")
    options = [_text(_written(option), "option", reserved) for option in _list(row.options, "option list")] or None
    _check_answers(answers, answer_type, options)
    if source.prompt_suffix and not (options and isinstance(source, RecordSource)):
        question = _text(with_suffix(question, source.prompt_suffix), "question", reserved)
    if split is None:
        raise RejectError(
            "split is unknown", f"{shown(row.split)}: name it in `splits`, as train, validation, test or skip"
        )
    question_type = _plain(row.question_type) or ""
    sample = {
        "sample_id": f"{source.name}/{row_id}",
        "system": _system(row.system, replace(reserved, allowed=())),
        "history": history,
        "question": question,
        "answer": answers[0],
        "answers": answers,
        "answer_type": answer_type,
        "options": options,
        "question_type": _text(question_type, "question type") if question_type else "",
        "source": source.name,
        "split": split,
        "notes": [*row.notes, *notes],
    }
    checked = _images(row, [*history[::2], question], images)
    return {**sample, "image_ids": [image.name for image in checked]}, checked


def row_key(row: RawRow, where: str = "") -> str:
    """How a row is called in rejects: its id where it has a usable one, else where it stands, or its number."""
    try:
        return _row_id(row.row_id)
    except RejectError:
        return where or f"row {row.number}"


def is_number(text: str) -> bool:
    """Whether the text is one number: 1,234.5, -3, .5 or 40 %."""
    stripped = text.strip()
    return bool(re.search(r"\d", stripped)) and _NUMBER.match(stripped) is not None


def is_integer(text: str) -> bool:
    """Whether the text is one whole number: 1,950, -3 or 5.0."""
    return _INTEGER.match(text.strip()) is not None


def _images(row: RawRow, asked: Sequence[str], reader: ImageReader) -> list[CheckedImage]:
    """The row's images. Marks are counted first, since reading images takes long."""
    images = _list(row.images, "image list")
    marks = sum(turn.count(IMAGE_MARK) for turn in asked)
    if marks and marks != len(images):
        raise RejectError(
            "number of <image> marks differs from number of images", f"{marks} marks, {len(images)} images"
        )
    return [reader.check(image, row.folder) for image in images]


def _row_id(value: Any) -> str:
    value = _plain(value)
    if value is None or value == "":
        raise RejectError("id is missing", "`id: null` in the recipe names rows by a hash of their content and place")
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)  # pandas makes floats of integers where one is missing
    if isinstance(value, str):
        return _text(value, "id")
    if isinstance(value, bool) or not isinstance(value, int):
        hint = ""
        if isinstance(value, dict) and value:
            hint = f": a field inside a map is named with a dot, such as `id: extra_info.{next(iter(value))}`"
        raise RejectError("id is neither a string nor an integer", f"{shown(value)}{hint}")
    return str(value)


def split_of(value: Any, source: Source) -> str | None:
    """The split that a row's word for it means; None for an unknown word. Raises SkipRow."""
    value = _plain(value)
    if value is None or value == "":
        value = source.split if isinstance(source, RowDefaults) else "train"
    try:
        split = known_split(value, source.splits if isinstance(source, RecordSource) else {})
    except KeyError:
        return None
    if split == SKIP:
        raise SkipRow(value)
    return split


def _answer_type(value: Any, source: Source) -> str:
    value = _plain(value)
    if value is None or value == "":
        value = source.answer_type if isinstance(source, RowDefaults) else "text"
    known = _ANSWER_TYPES.get(re.sub(r"[\s_-]", "", value).lower()) if isinstance(value, str) else None
    if known is None:
        raise RejectError("answer type is unknown", f"{shown(value)}, not one of text, number, integer, choice")
    return known


def _system(value: Any, reserved: Reserved) -> str | None:
    """None where there is nothing in it, as data sets say that there is none."""
    value = _plain(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return _text(value, "system prompt", reserved)


def _answers(value: Any, answer_type: str, reserved: Reserved) -> tuple[list[str], list[str]]:
    """Accepted answers, without blanks around them, and notes about them."""
    value = _plain(value)
    several = _list(value, "answer") if isinstance(value, list | tuple | dict) else [value]
    if not several:
        raise RejectError("answer is missing")
    written = [_text(_written(answer, answer_type == "integer"), "answer", reserved) for answer in several]
    stripped = [answer.strip() for answer in written]
    return stripped, [] if stripped == written else [_BLANKS_NOTE]


def _check_answers(answers: Sequence[str], answer_type: str, options: Sequence[str] | None) -> None:
    """Answers are what their type says."""
    for answer in answers:
        if answer_type == "number" and not is_number(answer):
            raise RejectError("answer declared a number is none", shown(answer))
        if answer_type == "integer" and not is_integer(answer):
            raise RejectError("answer declared an integer is none", shown(answer))
    if answer_type == "choice":
        letters = [chr(ord("A") + place) for place in range(min(26, len(options) if options else 26))]
        texts = [option.strip().casefold() for option in options or ()]
        if answers[0].upper() not in letters and answers[0].casefold() not in texts:
            listed = ", ".join(options or letters)
            raise RejectError("answer names no option", f"{shown(answers[0])}, the options are {shown(listed)}")


def _written(value: Any, whole: bool = False) -> Any:
    """A number as text, as Python writes it; other values as they are. `whole`: 5.0 is a 5 that became a float."""
    value = _plain(value)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return value
        return str(int(value)) if whole and value == int(value) else str(value)
    return str(value) if isinstance(value, bool | int) else value


def _text(value: Any, what: str, reserved: Reserved = _ANY) -> str:
    """The text itself; RejectError where it is none that can be asked or trained on."""
    if value is None:
        raise RejectError(f"{what} is missing")
    if not isinstance(value, str):
        raise RejectError(f"{what} is not text", shown(value))
    if not value.strip():
        raise RejectError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RejectError(f"{what} is not valid Unicode", repr(value[max(0, error.start - 10) : error.end])) from error
    if "\x00" in value:
        raise RejectError(f"{what} holds a NUL character")
    if token := reserved.found_in(value):
        raise RejectError(f"{what} holds a token reserved for chat templates", token)
    return value


def _list(value: Any, what: str) -> Sequence[Any]:
    value = _plain(value)
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return value
    raise RejectError(f"{what} is not a list", shown(value))


def _plain(value: Any) -> Any:
    """Values of numpy and pyarrow as those of Python, None for NaN: tables of pandas say "missing" so."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.floating):
        value = float(str(value))  # 0.1 of 32 bits is 0.1, not 0.10000000149011612
    elif isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float | Decimal) and math.isnan(value) else value
