"""What a model is asked: the generic prompts of VLMEvalKit, or those of a family.

Three departures from its wrappers, each where these lose the question: MMMU-Pro is asked with its options under every style,
the vision part of MMMU-Pro with its own prompt alone, and a mark of an image that is not there stays text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from masters.benchmarks.facts import Benchmark
from masters.benchmarks.questions import Question

Style = Literal["generic", "qwen2_5_vl", "qwen3_vl", "internvl"]
STYLES: tuple[Style, ...] = get_args(Style)

Piece = str | int

_MARK = re.compile(r"<image (\d+)>")
_CHINESE = re.compile("[\u4e00-\u9fff]")
_SELECT = "Please select the correct answer from the options above."
_LETTER_CHINESE = "请直接回答选项字母。"
_LETTER_PRO = "Answer directly with the option letter from the given choices. "
_IN_IMAGE = "Answer the following multiple-choice question in the image. "
_SHORT = "\nAnswer the question using a single word or phrase."
_SHORT_QWEN2_5 = "\nPlease try to answer the question with short words or phrases if possible."
_SHORT_QWEN3 = "\nPlease answer concisely with short words or phrases when possible."


@dataclass(frozen=True)
class Prompt:
    """One user turn.

    Attributes:
        pieces: texts, and numbers of the question's images (from 0) at their places. An image may stand twice, or not at all.
    """

    pieces: tuple[Piece, ...]

    @property
    def content(self) -> list[dict[str, Any]]:
        """The turn's content for a chat template."""
        return [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in self.pieces]

    @property
    def images(self) -> tuple[int, ...]:
        """Numbers of the images in the order in which they are shown."""
        return tuple(piece for piece in self.pieces if isinstance(piece, int))


def prompt(benchmark: Benchmark, question: Question, style: Style = "generic", images: int | None = None) -> Prompt:
    """The prompt of a question.

    Args:
        benchmark: says what kind of prompt it wants.
        question: with its images, unless `images` is given.
        style: generic, or a family's own.
        images: how many the question has; None: as many as it holds.

    Raises:
        ValueError: for an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"prompt: {style!r} is none of {', '.join(STYLES)}")
    count = len(question.images) if images is None else images
    if benchmark.asking == "image only":
        return _images_first(_IN_IMAGE + _LETTER_PRO, 1 if count else 0)
    text = _WRITERS[style](benchmark, question)
    if style == "internvl":
        return _numbered(text, count)
    if style == "generic" and benchmark.asking in ("marked choice", "pro"):
        return _at_marks(text, count)
    return _images_first(text, count)


def _generic(benchmark: Benchmark, question: Question) -> str:
    if benchmark.asking == "short":
        return question.question + _SHORT
    if benchmark.asking == "bare":
        return question.question
    return _choice(question, _LETTER_PRO if benchmark.asking == "pro" else f"{_SELECT} \n")


def _qwen2_5(benchmark: Benchmark, question: Question) -> str:
    if benchmark.asking in ("short", "bare"):
        return question.question + (_SHORT_QWEN2_5 if benchmark.metric != "graded" else "")
    chinese = benchmark.asking != "marked choice" and _CHINESE.search(_choice(question, ""))
    return _choice(question, _LETTER_CHINESE if chinese else _SELECT).rstrip()


def _qwen3(benchmark: Benchmark, question: Question) -> str:
    if benchmark.asking in ("short", "bare"):
        return question.question + _SHORT_QWEN3
    marked = benchmark.asking == "marked choice"
    return _choice(question, _SELECT if marked else "Answer with the option letter only.").rstrip()


def _internvl(benchmark: Benchmark, question: Question) -> str:
    if benchmark.asking in ("short", "bare"):
        return _generic(benchmark, question)
    lines = [question.hint] if question.hint else []
    lines += [question.question, *(f"{letter}. {text}" for letter, text in question.options.items())]
    text = "\n".join(lines)
    chinese = _CHINESE.search(text)
    if question.options:
        ending = _LETTER_CHINESE if chinese else "Answer with the option's letter from the given choices directly."
    else:
        ending = "请直接回答问题。" if chinese else "Answer the question directly."
    return f"{text}\n{ending}"


_WRITERS: dict[Style, Callable[[Benchmark, Question], str]] = {
    "generic": _generic,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
    "internvl": _internvl,
}


def _choice(question: Question, ending: str) -> str:
    """Hint, question, and options with what to do; the last two only where there are options."""
    text = f"Hint: {question.hint}\n" if question.hint else ""
    text += f"Question: {question.question}\n"
    if not question.options:
        return text
    options = "".join(f"{letter}. {option}\n" for letter, option in question.options.items())
    return f"{text}Options:\n{options}{ending}"


def _images_first(text: str, count: int) -> Prompt:
    return Prompt((*range(count), text))


def _at_marks(text: str, count: int) -> Prompt:
    """Images where `<image n>` stands, only those; all of them first where none does."""
    pieces: list[Piece] = []
    end = 0
    for mark in _MARK.finditer(text):
        number = int(mark[1]) - 1
        if not 0 <= number < count:
            continue
        pieces += [text[end : mark.start()], number]
        end = mark.end()
    if not pieces:
        return _images_first(text, count)
    return Prompt(tuple(piece for piece in (*pieces, text[end:]) if piece != ""))


def _numbered(text: str, count: int) -> Prompt:
    """One image above the text; several, each with its number."""
    if count < 2:
        return Prompt((*range(count), f"\n{text}" if count else text))
    pieces: list[Piece] = []
    for number in range(count):
        pieces += [f"Image-{number + 1}: " if not number else f"\nImage-{number + 1}: ", number]
    return Prompt((*pieces, f"\n{text}"))
