"""Multiple choice: from columns with options and an answer to a prompt that lists them and a label."""

import ast
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from masters.config.prepare import Choices
from masters.data.rejects import RejectError, shown
from masters.data.sources.fields import absent, look_up
from masters.data.sources.marks import Mark, parse

_INSTRUCTIONS = {
    "letter": "Answer with the option's letter from the given choices directly.",
    "text": "Answer with the text of one of the given choices directly.",
}
_OPTION_COLUMN = re.compile(r"[A-H]|(?:option|choice)_?(?:[A-H]|\d)", re.IGNORECASE)
_LETTER = re.compile(r"\W*([A-Za-z])\W*")


def options_of(record: Mapping[str, Any], choices: Choices) -> list[str]:
    """Texts of the row's options in order; empty where the row lists none. Raises RejectError."""
    if isinstance(choices.options, str):
        value = as_list(look_up(record, choices.options))
        if absent(value):
            return []
        if not isinstance(value, list | tuple):
            raise RejectError("options are not a list", shown(value))
    else:
        value = [look_up(record, column) for column in choices.options]
    last = max((place for place, option in enumerate(value, 1) if not absent(option)), default=0)
    options = list(value[:last])
    for place, option in enumerate(options):
        if absent(option):
            raise RejectError("an option between others is empty", shown(value))
        if isinstance(option, bool) or not isinstance(option, str | int | float):
            raise RejectError("option is not text", shown(option))
        options[place] = str(option).strip()
    if len(options) > len(ascii_uppercase):
        raise RejectError("more than 26 options", str(len(options)))
    return options


def choose(question: str, answer: Any, options: Sequence[str], choices: Choices) -> tuple[str, list[str]]:
    """The prompt that lists the options, and the accepted answers with the label first.

    The other form (the text beside the letter, the letter beside the text) is accepted too, unless it means another option.

    Raises:
        RejectError: where the answer names no option.
    """
    place = _place(answer, options, choices)
    letter, text = ascii_uppercase[place], options[place]
    pictured = any(isinstance(piece, Mark) for piece in parse(text))
    if choices.label == "letter":
        letters = ascii_uppercase[: len(options)]
        other = [] if pictured or (text.upper() in letters and text.upper() != letter) else [text]
        answers = list(dict.fromkeys([letter, *other]))
    elif pictured:
        raise RejectError("option is an image and cannot be the label; set choices.label: letter", shown(text))
    else:
        answers = [text, letter] if letter not in [option.upper() for option in options] else [text]
    return _prompt(question, options, choices), answers


def as_list(value: Any) -> Any:
    """The list that a string shows (`"['a', 'b']"`), or the value as it is."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def option_fields(record: Mapping[str, Any]) -> list[str]:
    """Fields that look like options and have a value: `options`, `choices`, or columns such as A and B, option_a, choice1."""
    lists = [
        field for field in ("options", "choices") if not absent(record.get(field)) and as_list(record[field]) != []
    ]
    columns = [field for field in record if _OPTION_COLUMN.fullmatch(field) and not absent(record[field])]
    return lists or (columns if len(columns) > 1 else [])


def _prompt(question: str, options: Sequence[str], choices: Choices) -> str:
    lines = [question]
    lettered = list(zip(ascii_uppercase, options, strict=False))
    listed = any(
        all(form.format(letter, option) in question for letter, option in lettered)
        for form in ("{}. {}", "{}) {}", "{}: {}")
    )
    if not listed:
        lines += [f"{letter}. {option}" for letter, option in lettered]
    instruction = _INSTRUCTIONS[choices.label] if choices.instruction is None else choices.instruction
    return "\n".join([*lines, instruction] if instruction else lines)


def _place(answer: Any, options: Sequence[str], choices: Choices) -> int:
    """Which option the answer names, from 0."""
    value = as_list(answer)
    value = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    place = None
    if choices.answer in ("index", "index_from_1"):
        if re.fullmatch(r"\d{1,3}(\.0)?", text):
            place = int(float(text)) - (choices.answer == "index_from_1")
    elif choices.answer == "letter":
        letter = _LETTER.fullmatch(text)
        place = ascii_uppercase.index(letter[1].upper()) if letter else None
    else:
        folded = [option.casefold() for option in options]
        same = options if text in options else folded
        text = text if text in options else text.casefold()
        place = same.index(text) if text in same else None
    if place is None or not 0 <= place < len(options):
        raise RejectError("answer names no option", f"{shown(answer)} as {choices.answer}, {len(options)} options")
    return place
