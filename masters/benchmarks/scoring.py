"""From answers to a score: rules, then the judge, then the mean; and beside it what was answered, left open, judged, cut off."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from masters.benchmarks import graded as graded_metric
from masters.benchmarks import letters, open_answers, typed
from masters.benchmarks import relaxed as relaxed_metric
from masters.benchmarks.asking import Chat, Judge, Task, ask_all, code_of
from masters.benchmarks.circular import group_values, groups
from masters.benchmarks.facts import Benchmark, Metric
from masters.benchmarks.files import QuestionFile
from masters.benchmarks.intervals import Interval, Unit, value_interval
from masters.benchmarks.questions import Question
from masters.judging.parser import spoken

By = Literal["rules", "judge", "nobody", "failed", "quarantined"]

_NAMED = 5


@dataclass(frozen=True)
class Answer:
    """What a model answered. `text` is None where the engine failed; `truncated`: it ended at the limit of tokens."""

    text: str | None
    truncated: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of the answer to one row.

    Attributes:
        index: of the question.
        by: who extracted: the rules, the judge, or nobody: it is unresolved. Or the engine failed: there is no answer; or the
            row cannot be asked of any model: it counts as wrong.
        extracted: the letter, number or text; None where there is none.
        value: in [0, 1]; None where the engine failed, or nobody graded what only a judge can.
        asked: whether the judge was asked.
        truncated: as of the answer.
    """

    index: str
    by: By
    extracted: str | None
    value: float | None
    asked: bool
    truncated: bool


@dataclass(frozen=True)
class Score:
    """The score of one model's answers to one benchmark.

    Attributes:
        benchmark: its name.
        value: in [0, 1]; None where an answer is missing, or nothing was graded. Of rotated questions: the share of which all
            rows are right.
        interval: of 95 %, clustered by image; None without a value.
        judge: its name; empty without one. Scores of different judges cannot be compared.
        rows: of the benchmark.
        answered, failed: rows with an answer, and those that must be asked again. With `quarantined` they are all rows.
        judged, unresolved: rows that the judge was asked about, and rows of which nobody knows what they say; these count as
            wrong, but of graded ones (MM-Vet), which do not count.
        truncated: answers that ended at the limit of tokens.
        remarks: on the file, and why there is no value.
        parts: [value, number] by split and by category.
        units: what the value is the mean of; empty without a value.
        quarantined: rows that no model can be asked, which count as wrong; they are neither answered nor failed.
    """

    benchmark: str
    value: float | None
    interval: Interval | None
    judge: str
    rows: int
    answered: int
    failed: int
    judged: int
    unresolved: int
    truncated: int
    remarks: tuple[str, ...]
    parts: dict[str, dict[str, tuple[float, int]]]
    units: tuple[Unit, ...]
    quarantined: int = 0


@dataclass(frozen=True)
class _Rules:
    extract: Callable[[Question, str], str | None]
    value: Callable[[Question, str], float]
    judge_prompt: "_AskJudge | None" = None
    judge_reply: Callable[[Question, str], str | None] = lambda question, reply: None


class _AskJudge(Protocol):
    def __call__(
        self, question: Question, response: str, code: str, control_tokens: Collection[str], /
    ) -> list[dict[str, Any]] | None: ...


_LETTERS = _Rules(letters.extract, letters.value, letters.judge_prompt, letters.judge_reply)
_RULES: dict[Metric, _Rules] = {
    "letter": _LETTERS,
    "circular": _LETTERS,
    "mmmu_pro": _Rules(
        lambda question, response: letters.extract(question, letters.last_line(response)),
        letters.value,
        letters.judge_prompt,
        letters.judge_reply,
    ),
    "relaxed": _Rules(relaxed_metric.extract, relaxed_metric.value),
    "typed": _Rules(typed.extract, typed.value, typed.judge_prompt, typed.judge_reply),
    "mmmu": _Rules(open_answers.extract, open_answers.value, open_answers.judge_prompt, open_answers.judge_reply),
    "graded": _Rules(graded_metric.extract, graded_metric.value, graded_metric.judge_prompt, graded_metric.judge_reply),
}


def outcomes(
    benchmark: Benchmark, questions: Sequence[Question], answers: Mapping[str, Answer], judge: Judge | None = None
) -> list[Outcome]:
    """What became of each question's answer, in order. An index without an answer is a failed one.

    The judge is asked about what the rules leave open, and only where something was said behind the last thought.
    """
    rules = _RULES[benchmark.metric]
    texts = [(answers[q.index].text if q.index in answers else None) for q in questions]
    extracted = [None if text is None else rules.extract(q, text) for q, text in zip(questions, texts, strict=True)]
    tasks: dict[int, Task] = {}
    if judge is not None:
        for place, (question, text, found) in enumerate(zip(questions, texts, extracted, strict=True)):
            task = _task(benchmark, rules, question, text, judge) if found is None and text is not None else None
            if task is not None:
                tasks[place] = task
    told = dict(zip(tasks, ask_all(judge, list(tasks.values())) if judge and tasks else (), strict=True))
    return [
        _outcome(benchmark, question, answers.get(question.index), found, place in told, told.get(place))
        for place, (question, found) in enumerate(zip(questions, extracted, strict=True))
    ]


class Asked(Protocol):
    """What was asked: a `QuestionFile`, or what a caller has kept of it."""

    @property
    def benchmark(self) -> Benchmark:
        """Whose questions they are."""
        ...

    @property
    def questions(self) -> Sequence[Question]:
        """In the order of the file; images are not needed."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What is odd about them."""
        ...


def summarise(file: Asked, found: Sequence[Outcome], judge: str = "") -> Score:
    """The score of a whole benchmark.

    Args:
        file: the benchmark's.
        found: outcomes in any order; a question without one has failed.
        judge: name of the one that was asked.

    Raises:
        ValueError: for two outcomes of one question, or one of a question that the file does not have.
    """
    by_index = {outcome.index: outcome for outcome in found}
    rows = file.questions
    strangers = by_index.keys() - {row.index for row in rows}
    if len(by_index) < len(found) or strangers:
        raise ValueError(
            f"{file.benchmark.name}: {len(strangers)} answers to questions that its file does not have "
            f"({', '.join(sorted(strangers)[:_NAMED])}), {len(found) - len(by_index)} second answers to one question. "
            "Ask again with this file."
        )
    held = [by_index[row.index] for row in rows if row.index in by_index]
    answered = [outcome for outcome in held if outcome.by not in ("failed", "quarantined")]
    barred = [outcome.index for outcome in held if outcome.by == "quarantined"]
    missing = [row.index for row in rows if row.index not in by_index or by_index[row.index].by == "failed"]
    remarks, units = list(file.remarks), tuple[Unit, ...]()
    if barred:
        remarks.append(
            f"{len(barred)} of {len(rows):,} rows cannot be asked and count as wrong: {', '.join(barred[:_NAMED])}"
            f"{'' if len(barred) <= _NAMED else ', ...'}"
        )
    if missing:
        remarks.append(
            f"{len(missing)} of {len(rows):,} rows have no answer ({', '.join(missing[:_NAMED])}): there is no score until "
            "they are asked again"
        )
    else:
        units = _units(file.benchmark, rows, by_index)
        if file.benchmark.metric == "graded" and len(units) < len(rows):
            why = f"{judge} gave no number" if judge else "there is no judge"
            remarks.append(f"{len(rows) - len(units)} of {len(rows):,} answers have no grade and do not count: {why}")
    interval = value_interval(units) if units else None
    return Score(
        file.benchmark.name,
        interval.value if interval else None,
        interval,
        judge,
        len(rows),
        len(answered),
        len(missing),
        sum(outcome.asked for outcome in answered),
        sum(outcome.by == "nobody" for outcome in answered),
        sum(outcome.truncated for outcome in answered),
        tuple(remarks),
        _parts(file.benchmark, rows, units),
        units,
        len(barred),
    )


def score(file: QuestionFile, answers: Mapping[str, Answer], judge: Judge | None = None) -> Score:
    """Score the answers to a benchmark, by index of the question. Raises ValueError as `summarise` does."""
    found = outcomes(file.benchmark, file.questions, answers, judge)
    known = {question.index for question in file.questions}
    strangers = [Outcome(index, "failed", None, None, False, False) for index in answers if index not in known]
    return summarise(file, [*found, *strangers], judge.name if judge else "")


def _task(benchmark: Benchmark, rules: _Rules, question: Question, response: str, judge: Judge) -> Task | None:
    said = spoken(response)
    if rules.judge_prompt is None or not said or not said.strip():
        return None
    key = f"{benchmark.name}/{question.index}"
    asked: Chat | None = rules.judge_prompt(question, said, code_of(key), judge.control_tokens)
    return Task(f"{key}/{said}", asked, lambda reply: rules.judge_reply(question, reply)) if asked else None


def _outcome(
    benchmark: Benchmark, question: Question, answer: Answer | None, found: str | None, asked: bool, told: str | None
) -> Outcome:
    if answer is None or answer.text is None:
        return Outcome(question.index, "failed", None, None, False, False)
    extracted = found if found is not None else told
    by: By = "nobody" if extracted is None else "rules" if found is not None else "judge"
    value = None if benchmark.metric == "graded" else 0.0
    if extracted is not None:
        value = _RULES[benchmark.metric].value(question, extracted)
    return Outcome(question.index, by, extracted, value, asked, answer.truncated)


def _units(benchmark: Benchmark, rows: Sequence[Question], by_index: Mapping[str, Outcome]) -> tuple[Unit, ...]:
    """Rows with a value, or the questions that they are rotations of."""
    values = {index: outcome.value for index, outcome in by_index.items() if outcome.value is not None}
    if benchmark.metric != "circular":
        return tuple(Unit(row.index, row.cluster, values[row.index]) for row in rows if row.index in values)
    first = {name: members[0] for name, members in groups(rows).items()}
    return tuple(Unit(name, first[name].cluster, value) for name, value in group_values(rows, values).items())


def _parts(
    benchmark: Benchmark, rows: Sequence[Question], units: Sequence[Unit]
) -> dict[str, dict[str, tuple[float, int]]]:
    """Means by split and by category, in alphabetical order; a graded question has several categories."""
    by_key = {row.group if benchmark.metric == "circular" else row.index: row for row in reversed(rows)}
    held: dict[str, dict[str, list[float]]] = {"split": {}, "category": {}}
    for unit in units:
        row = by_key[unit.key]
        categories = row.category.split(",") if benchmark.metric == "graded" else [row.category]
        for kind, names in (("split", [row.split]), ("category", categories)):
            for name in filter(None, map(str.strip, names)):
                held[kind].setdefault(name, []).append(unit.value)
    return {
        kind: {name: (sum(values) / len(values), len(values)) for name, values in sorted(by_name.items())}
        for kind, by_name in held.items()
    }
