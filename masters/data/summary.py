"""What a source turned out to hold, chunk by chunk and together: counts, one example of each reject, and warnings."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 80
_KEPT = 500
_COUNTERS = ("splits", "answer_types", "rejects", "notes")
_SPREADS = ("images", "question", "prompt")


@dataclass
class Spread:
    """Smallest, largest and mean of whole numbers."""

    n: int = 0
    total: int = 0
    smallest: int = 0
    largest: int = 0

    def add(self, value: int) -> None:
        """One more."""
        self.merge(Spread(1, value, value, value))

    def merge(self, other: "Spread") -> None:
        """Those of another one, too."""
        if other.n:
            self.smallest = min(self.smallest, other.smallest) if self.n else other.smallest
            self.largest = max(self.largest, other.largest)
            self.n, self.total = self.n + other.n, self.total + other.total

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return f"{self.smallest:,}"
        return f"{self.smallest:,} to {self.largest:,}, mean {self.total / self.n:,.1f}"


@dataclass
class SourceSummary:
    """Of the rows of one source, or of one chunk of it.

    Attributes:
        splits: accepted rows by split.
        skipped: rows of splits that the recipe leaves out.
        thinned: rows that `weight` leaves out, unchecked.
        over_limit: rows that could be used, and are more than `limit`.
        duplicates: rows that repeat an earlier one, of this source or another.
        images: images per accepted row.
        imageless: accepted rows without an image.
        question: characters of a question.
        prompt: tokens of a prompt, images expanded.
        answer_types: accepted rows by type.
        answers: the beginnings of up to two different labels, to see whether all are equal.
        longest_answer: characters of the longest label.
        cut_answers: labels with more tokens than generate.max_tokens.
        rejects: rows by reason.
        examples: for each reason one row: its key and what was found.
        notes: accepted rows by what is odd about them.
        images_found: images that lay where a path or an address said.
        images_missing: images that did not.
        first_missing: what was tried for the first one of them.
    """

    splits: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    thinned: int = 0
    over_limit: int = 0
    duplicates: int = 0
    images: Spread = field(default_factory=Spread)
    imageless: int = 0
    question: Spread = field(default_factory=Spread)
    prompt: Spread = field(default_factory=Spread)
    answer_types: Counter[str] = field(default_factory=Counter)
    answers: list[str] = field(default_factory=list)
    longest_answer: int = 0
    cut_answers: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    images_found: int = 0
    images_missing: int = 0
    first_missing: str = ""

    @property
    def rows(self) -> int:
        """All rows that were checked."""
        return self.splits.total() + self.rejects.total() + self.over_limit + self.duplicates

    def accept(self, sample: dict[str, Any], prompt_tokens: int, notes: Sequence[str], *, cut: bool) -> None:
        """Count a sample; `cut` says that its label is longer than what a model may answer."""
        self.splits[sample["split"]] += 1
        self.images.add(len(sample["image_ids"]))
        self.imageless += not sample["image_ids"]
        self.question.add(len(sample["question"]))
        self.prompt.add(prompt_tokens)
        self.answer_types[sample["answer_type"]] += 1
        if len(self.answers) < 2 and sample["answer"][:_KEPT] not in self.answers:
            self.answers.append(sample["answer"][:_KEPT])
        self.longest_answer = max(self.longest_answer, len(sample["answer"]))
        self.cut_answers += cut
        self.notes.update(notes)

    def reject(self, row: str, reason: str, detail: str) -> None:
        """Count a reject."""
        self.rejects[reason] += 1
        self.examples.setdefault(reason, f"{row}: {detail}" if detail else row)

    def merge(self, other: "SourceSummary") -> None:
        """Count the rows of a later chunk, too."""
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for name in _SPREADS:
            getattr(self, name).merge(getattr(other, name))
        for name in (
            "skipped",
            "thinned",
            "over_limit",
            "duplicates",
            "imageless",
            "cut_answers",
            "images_found",
            "images_missing",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.answers = list(dict.fromkeys([*self.answers, *other.answers]))[:2]
        self.longest_answer = max(self.longest_answer, other.longest_answer)
        self.examples = {**other.examples, **self.examples}
        self.first_missing = self.first_missing or other.first_missing

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        counters = {name: dict(getattr(self, name)) for name in _COUNTERS}
        return {**vars(self), **counters, **{name: vars(getattr(self, name)) for name in _SPREADS}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SourceSummary":
        """From plain data."""
        counters = {name: Counter(data[name]) for name in _COUNTERS}
        spreads = {name: Spread(**data[name]) for name in _SPREADS}
        return cls(**{**data, **counters, **spreads})

    def lines(self, name: str) -> Iterator[str]:
        """What people read about the source: what it holds, then its commonest rejects."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        words = [f"{counted(self.rows, 'row')}: {splits or 'none'}"]
        if self.skipped:
            words.append(f"{self.skipped:,} left out by the recipe")
        if self.thinned:
            words.append(f"{self.thinned:,} left out by weight")
        if self.duplicates:
            words.append(f"{counted(self.duplicates, 'duplicate')} left out")
        if self.over_limit:
            words.append(f"{self.over_limit:,} over the limit")
        if self.splits:
            words.append(f"images a row {self.images}" + (f" ({self.imageless:,} without)" if self.imageless else ""))
            words.append("answers " + ", ".join(f"{count:,} {kind}" for kind, count in self.answer_types.items()))
            words.append(f"characters of a question {self.question}")
            words.append(f"tokens of a prompt {self.prompt}")
        yield f"{name}: {'; '.join(words)}"
        if self.rejects:
            common = [
                f"{reason} ({count:,}, for example {_short(self.examples[reason])})"
                for reason, count in self.rejects.most_common(3)
            ]
            more = len(self.rejects) - len(common)
            others = f"; and {counted(more, 'other reason')}" if more > 0 else ""
            yield f"{name}: {counted(self.rejects.total(), 'reject')}: {'; '.join(common)}{others}"

    def warnings(self, name: str) -> Iterator[str]:
        """What is probably a mistake, though every row can be used."""
        accepted = self.splits.total()
        if accepted and not self.images.largest:
            yield f"{name}: no row has an image. Name the field that holds them: images."
        if accepted > 1 and len(self.answers) == 1:
            yield f"{name}: all answers are equal: {_short(self.answers[0])} (Is this the field with the answer?)"
        elif accepted > 1 and self.longest_answer == 1 and set(self.answer_types) <= {"text"}:
            yield f"{name}: all answers are one character. For multiple choice set choices, or answer_type: choice."
        if self.cut_answers:
            long = counted(self.cut_answers, "answer")
            yield f"{name}: {long} with more tokens than generate.max_tokens and evaluate.max_tokens allow"
        if self.images_missing:
            of_all = self.images_found + self.images_missing
            yield f"{name}: {self.images_missing:,} of {of_all:,} images were not found{self.first_missing}"
        for note, count in self.notes.most_common(5):
            yield f"{name}: {counted(count, 'row')}: {note}"


def counted(number: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."
