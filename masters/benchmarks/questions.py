"""A question of a benchmark, and how its row of the file becomes one."""

import ast
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase

from masters.benchmarks.facts import Benchmark
from masters.data.rejects import RejectError, shown
from masters.judging.choice import lettered

ROTATED_BY = 1_000_000
"""Rows i, i + 1,000,000, ... of a file ask the same question with its options rotated."""

LONGEST_REFERENCE = 64
"""An image cell of so many characters at the most is the index of the row that holds the image."""

_READ = ("index", "question", "answer", "hint", "split", "category", "image", "image_path")
_INDEX = re.compile(r"\d+")


@dataclass(frozen=True)
class Question:
    """One row of a benchmark's file.

    Attributes:
        index: unique in the file.
        question: text; empty where it stands in the image.
        answer: the right one, as the file has it; never shown to who extracts.
        options: text by capital letter.
        hint: stands before the question; mostly empty.
        split, category: for figures by part.
        details: further cells that are not empty, by column.
        cluster: the first image's SHA-256; questions about one image are not independent.
        images: encoded, in order; empty unless they were asked for.
    """

    index: str
    question: str
    answer: str
    options: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    split: str = ""
    category: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    images: tuple[bytes, ...] = ()

    @property
    def group(self) -> str:
        """One for all rotations of a question."""
        return str(int(self.index) % ROTATED_BY) if _INDEX.fullmatch(self.index) else self.index

    @property
    def is_multi_choice(self) -> bool:
        """Whether MathVista's column says that one of the choices is the answer."""
        return self.details.get("question_type") == "multi_choice"


def columns_needed(benchmark: Benchmark) -> list[str]:
    """Columns without which the file cannot be asked or scored."""
    needed = ["index", "image", "answer"]
    if benchmark.asking != "image only":
        needed.append("question")
    if benchmark.split:
        needed.append("split")
    if benchmark.metric in ("letter", "circular", "mmmu") or benchmark.asking == "pro":
        needed += ["A", "B"]
    if benchmark.metric == "typed":
        needed += ["question_type", "answer_type", "choices"]
    return needed


def question_of(benchmark: Benchmark, row: Mapping[str, str | None]) -> Question:
    """The question of a row, without images and cluster. Empty cells are None; the words None, NA and nan are text.

    Raises:
        RejectError: where a cell cannot be what its column says.
    """
    cells = {column: cell for column, cell in row.items() if cell is not None}
    for column, cell in cells.items():
        if column != "image" and any("\ud800" <= character <= "\udfff" for character in cell):
            raise RejectError(f"{column} is no UTF-8", shown(cell))
    index = cells.get("index", "").strip()
    if not index:
        raise RejectError("index is empty")
    if benchmark.metric == "circular" and not _INDEX.fullmatch(index):
        raise RejectError("index is no whole number", f"{shown(index)}: rotations of a question are found by it")
    if not cells.get("answer", "").strip():
        raise RejectError("answer is empty", "nothing can be scored without it")
    if benchmark.asking != "image only" and not cells.get("question", "").strip():
        raise RejectError("question is empty")
    return Question(
        index,
        cells.get("question", ""),
        cells["answer"],
        _options(benchmark, cells),
        cells.get("hint", ""),
        cells.get("split", ""),
        cells.get("category", ""),
        {c: cell for c, cell in cells.items() if c not in _READ and c not in ascii_uppercase},
    )


def _options(benchmark: Benchmark, cells: Mapping[str, str]) -> dict[str, str]:
    if benchmark.metric != "typed":
        return {letter: cells[letter] for letter in ascii_uppercase if letter in cells}
    choices = cells.get("choices", "").strip()
    texts = as_texts(choices) if choices.startswith("[") else []
    if choices and not choices.startswith("["):
        raise RejectError("choices are no list", shown(choices))
    return lettered(texts) if len(texts) <= len(ascii_uppercase) else _too_many(texts)


def _too_many(texts: list[str]) -> dict[str, str]:
    raise RejectError("more than 26 options", str(len(texts)))


def as_texts(cell: str) -> list[str]:
    """Elements of a list that a cell shows, as text: literals only, nothing is run. Raises RejectError where it shows none."""
    try:
        value = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RejectError("a list cannot be read", shown(cell)) from error
    if not isinstance(value, list):
        raise RejectError("a list cannot be read", shown(cell))
    return [str(element) for element in value]


def image_reference(cell: str) -> str | None:
    """The index of the row that holds the image; None for an image."""
    short = len(cell) <= LONGEST_REFERENCE and not cell.lstrip().startswith("[")
    return cell.strip() if short else None


def images_in(cell: str) -> tuple[bytes, ...]:
    """Encoded images of a cell: base64, or the text of a list of such. Raises RejectError."""
    texts = as_texts(cell) if cell.lstrip().startswith("[") else [cell]
    if not texts:
        raise RejectError("image is an empty list")
    return tuple(_decoded(text) for text in texts)


def _decoded(text: str) -> bytes:
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise RejectError("image is no base64", f"{shown(text, 40)}: {error}") from error
    if not content:
        raise RejectError("image is empty")
    return content
