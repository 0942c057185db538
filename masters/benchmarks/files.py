"""Reading a benchmark's file: every row checked once, no image kept; images again, row by row, where they are asked for."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from masters.benchmarks.circular import broken_groups
from masters.benchmarks.facts import OTHER_FILES, Benchmark
from masters.benchmarks.letters import gold_letter, is_choice
from masters.benchmarks.questions import Question, columns_needed, image_reference, images_in, question_of
from masters.data.rejects import RejectError
from masters.data.sources.files import list_files
from masters.data.sources.records import START, Mark
from masters.data.sources.table_files import tsv_records
from masters.data.storage import Storage

_CHUNK = 8 << 20
_NAMED = 5
_KEPT = 4  # cells of images that several rows share, in memory while a file is walked through


@dataclass(frozen=True)
class QuestionFile:
    """A file that was read whole and found sound.

    Attributes:
        benchmark: whose file it is.
        questions: in the order of the file, without images.
        md5: of the file.
        remarks: what is odd about it and did not stop it; they go beside every score.
    """

    benchmark: Benchmark
    questions: tuple[Question, ...]
    md5: str
    remarks: tuple[str, ...]
    _root: Storage
    _name: str
    _places: tuple[Mark | None, ...]  # where the row begins that holds each question's images

    def with_images(self, start: int = 0, stop: int | None = None) -> Iterator[Question]:
        """Questions `start` to `stop`, in order, with their images; a few rows are in memory at a time."""
        images = lru_cache(_KEPT)(self._images)
        for question, place in zip(self.questions[start:stop], self._places[start:stop], strict=True):
            yield question if place is None else replace(question, images=images(place))

    def _images(self, place: Mark) -> tuple[bytes, ...]:
        return images_in(next(tsv_records(self._root, self._name, place)).value["image"])


def read(benchmark: Benchmark, path: str) -> QuestionFile:
    """Read VLMEvalKit's table of a benchmark: a file, or the folder that `<name>.tsv` lies in; any storage.

    Raises:
        ValueError: where the file is not there, lacks a column, or has rows that cannot be asked or scored; all of them are
            counted, and the first ones named.
    """
    root, name = _located(benchmark, path)
    md5 = _md5(root, name)
    rows = _Rows(benchmark)
    try:
        for record in tsv_records(root, name):
            rows.add(record.value, record.place, record.next)
    except RejectError as error:
        raise ValueError(f"{root.address(name)}: {error.reason}: {error.detail}") from error
    questions, places = rows.finished(genuine=md5 == benchmark.md5)
    if rows.problems:
        raise ValueError(
            f"{root.address(name)}: {len(rows.problems)} rows cannot be used: {_listed(rows.problems, '; ')}. "
            f"Mend them, or fetch the file again (md5 {benchmark.md5}; this one has {md5})."
        )
    if not questions:
        of_split = f" of split {benchmark.split}" if benchmark.split else ""
        raise ValueError(f"{root.address(name)}: no rows{of_split}. Fetch the file again; it may be cut off.")
    remarks = (*_about_file(benchmark, md5, questions), *rows.remarks)
    return QuestionFile(benchmark, questions, md5, remarks, root, name, places)


def plain_rows(benchmark: Benchmark, path: str) -> Iterator[dict[str, str]]:
    """Cells of the rows that count, without images; an empty one is an empty text. Of a file that `read` found sound."""
    root, name = _located(benchmark, path)
    for record in tsv_records(root, name):
        if not benchmark.split or record.value["split"] == benchmark.split:
            yield {column: cell or "" for column, cell in record.value.items() if column != "image"}


def md5_of(benchmark: Benchmark, path: str) -> str:
    """Of the file that `read` would read. Raises ValueError where it is not there."""
    return _md5(*_located(benchmark, path))


def _located(benchmark: Benchmark, path: str) -> tuple[Storage, str]:
    """The folder, and the name of the file in it."""
    root, names = list_files(path, "tsv")
    own = f"{benchmark.name}.tsv"
    name = names[0] if len(names) == 1 else own
    if name not in names:
        raise ValueError(f"{path}: no {own} in this folder. Name the file.")
    return root, name


class _Rows:
    """Rows as they pass, without their images."""

    def __init__(self, benchmark: Benchmark):
        self._benchmark = benchmark
        self._kept: list[
            tuple[Question, str]
        ] = []  # and its image cell's reference, or its own index; empty without image
        self._holders: dict[str, tuple[Mark, str]] = {}  # index -> where its row begins, first image's digest
        self._seen: dict[str, str] = {}  # index -> place
        self._begins = START
        self.problems: list[str] = []
        self.remarks: list[str] = []

    def add(self, row: Any, place: str, following: Mark) -> None:
        """Check a row. Raises RejectError where the file as a whole lacks a column."""
        begins, self._begins = self._begins, following
        try:
            if isinstance(row, Exception):
                raise RejectError("is no row", str(row))
            self._check_columns(row)
            self._add(row, place, begins)
        except RejectError as error:
            if error.reason == _COLUMNS:
                raise
            self.problems.append(f"{place}: {error.reason}{f' ({error.detail})' if error.detail else ''}")

    def finished(self, genuine: bool) -> tuple[tuple[Question, ...], tuple[Mark | None, ...]]:
        """Questions with their clusters, and where their images stand; problems and remarks that show only now are added."""
        questions, places = [], []
        for question, reference in self._kept:
            holder = self._holders.get(reference)
            if reference and holder is None:
                at = self._seen[question.index]
                self.problems.append(f"{at}: its image is that of row {reference!r}, which has none or is not there")
            questions.append(
                replace(question, cluster=holder[1] if holder else f"{self._benchmark.name}/{question.group}")
            )
            places.append(holder[0] if holder else None)
        self._look_at(questions, genuine)
        return tuple(questions), tuple(places)

    def _check_columns(self, row: Mapping[str, Any]) -> None:
        missing = [column for column in columns_needed(self._benchmark) if column not in row]
        if missing:
            raise RejectError(
                _COLUMNS, f"{', '.join(missing)}. {self._benchmark.name}.tsv of VLMEvalKit has them; bring that file."
            )

    def _add(self, row: Mapping[str, str | None], place: str, begins: Mark) -> None:
        index, cell = (row["index"] or "").strip(), row["image"]
        if index in self._seen:
            raise RejectError("index stands twice", f"{index}, also in {self._seen[index]}")
        self._seen[index] = place
        reference = image_reference(cell) if cell else ""
        if cell and reference is None:
            self._holders[index] = (begins, hashlib.sha256(images_in(cell)[0]).hexdigest())
        if not self._benchmark.split or row["split"] == self._benchmark.split:
            self._kept.append((question_of(self._benchmark, row), index if reference is None else reference))

    def _look_at(self, questions: list[Question], genuine: bool) -> None:
        blind = [question.index for question, reference in self._kept if not reference]
        if blind:
            self.remarks.append(f"{len(blind)} questions have no image and are asked without: {_listed(blind)}")
        lost = [q.index for q in questions if is_choice(self._benchmark, q) and gold_letter(q) is None]
        if lost:
            self.remarks.append(
                f"{len(lost)} questions whose right answer is none of their options, always wrong: {_listed(lost)}"
            )
        broken = broken_groups(questions) if self._benchmark.metric == "circular" else []
        if broken and genuine:
            self.remarks.append(f"{len(broken)} questions have not one row for each option: {_listed(broken)}")
        elif broken:
            self.problems += [
                f"question {group}: rotations are missing, it needs one row for each option" for group in broken
            ]


_COLUMNS = "columns are missing"


def _about_file(benchmark: Benchmark, md5: str, questions: tuple[Question, ...]) -> list[str]:
    """What its md5 and its size say."""
    remarks = []
    if md5 != benchmark.md5:
        other = f" ({OTHER_FILES[md5]})" if md5 in OTHER_FILES else ""
        remarks.append(f"md5 of the file is {md5}{other}, not {benchmark.md5}: the score is of another file")
    if benchmark.rows is not None and len(questions) != benchmark.rows:
        remarks.append(f"{len(questions):,} rows count, {benchmark.rows:,} were expected")
    groups = len(Counter(question.group for question in questions))
    if benchmark.questions is not None and groups != benchmark.questions:
        remarks.append(f"{groups:,} questions, {benchmark.questions:,} were expected")
    return remarks


def _md5(root: Storage, name: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with root.open(name) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(names: list[str], between: str = ", ") -> str:
    more = f"{between}and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more
