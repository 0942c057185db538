"""What came out of a study: each row's students over its seeds, against the row that it is compared with, beside the paper.

Two things are left to chance: which questions were asked, and which seeds. An interval here holds both: the one over the
questions (the mean of the seeds' bounds, which holds whatever questions the seeds share) and, from two seeds on, Student's.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from masters.benchmarks import comparing
from masters.config.run import LABEL
from masters.config.study import BASELINE, InPaper, Study, StudyRow
from masters.data.manifests import read_manifest
from masters.data.storage import Storage
from masters.reporting.statistics import Interval, student_quantile
from masters.study.sharing import PlannedRun

STUDENT = comparing.STUDENT
NOT_REPRODUCED = "not reproduced at this scale"
COSTS = ("steps", "generated tokens")
"""What is told beside a difference where it is not equal: training's length, and what the engines had to do."""

_ALIKE = 0.01  # lengths of sampled responses differ a little


@dataclass(frozen=True)
class Cost:
    """Of one run: optimiser steps, and tokens that were generated for it, whoever generated them first."""

    steps: int
    tokens: int


@dataclass(frozen=True)
class Change:
    """A row's students minus those that they are compared with, in [-1, 1].

    Attributes:
        by_seed: the paired difference of each seed that both have, over the questions that both were asked.
        over_questions: mean over the seeds; its bounds are the means of the seeds' bounds.
        over_seeds: the same mean with Student's interval over the seeds; None for one seed.
    """

    by_seed: dict[int, Interval]
    over_questions: Interval
    over_seeds: Interval | None

    @property
    def both(self) -> Interval:
        """From the lowest bound to the highest."""
        bounds = [self.over_questions, *([self.over_seeds] if self.over_seeds else [])]
        mean = self.over_questions
        return Interval(mean.value, min(one.low for one in bounds), max(one.high for one in bounds), mean.n)

    @property
    def shows(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.both.low > 0 or self.both.high < 0


@dataclass(frozen=True)
class RowFindings:
    """One line of the study's table.

    Attributes:
        row: as the study has it.
        scores: of the student of each seed that is done, in [0, 1].
        costs: of these.
        change: None where nothing can be compared.
        unequal: what the runs that are compared did not have alike, mean of the seeds, theirs behind ours; else empty.
        remarks: what is missing, and why there is no difference.
    """

    row: StudyRow
    scores: dict[int, float]
    costs: dict[int, Cost]
    change: Change | None
    unequal: dict[str, tuple[float, float]]
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the table shows."""
        return self.row.title or self.row.name

    @property
    def mean(self) -> float | None:
        """Over the seeds."""
        return statistics.mean(self.scores.values()) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def verdict(self) -> str:
        """Ours beside the paper's, in words."""
        return verdict(self.change, self.row.paper)

    @property
    def equal(self) -> str:
        """Whether the difference is one at equal steps and equal compute; where not, both numbers."""
        if self.change is None or self.row.against == BASELINE:
            return ""
        told = [f"{mine:,.0f} {name}, {theirs:,.0f} there" for name, (mine, theirs) in self.unequal.items()]
        alike = [f"equal {name}" for name in COSTS if name not in self.unequal]
        return "; ".join([*alike, *told])


@dataclass(frozen=True)
class Findings:
    """Of a study: `measure` is what scores are of, `questions` how many of one run."""

    name: str
    measure: str
    questions: int
    seeds: tuple[int, ...]
    rows: tuple[RowFindings, ...]

    @property
    def as_data(self) -> dict[str, Any]:
        """For a script."""
        rows = [
            {
                **asdict(one),
                "row": one.row.model_dump(mode="json"),
                "mean": one.mean,
                "spread": one.spread,
                "verdict": one.verdict,
                "equal": one.equal,
                "interval": asdict(one.change.both) if one.change else None,
            }
            for one in self.rows
        ]
        return {**asdict(self), "rows": rows}


def find(study: Study, planned: Sequence[PlannedRun], missing: Mapping[str, str]) -> Findings:
    """Read what the done runs of a study say.

    Args:
        study: the study.
        planned: all of its runs.
        missing: of the runs that have no result: why, by name.
    """
    examined = {
        (one.run.row.name, one.run.seed): comparing.examined(one.directory.uri)
        for one in planned
        if one.run.name not in missing
    }
    asked = {bool(one.benchmarks) for one in examined.values()}
    over_benchmarks = asked == {True}
    measure = "mean over benchmarks" if over_benchmarks else "own split"
    rows = tuple(_row(row, study, examined, over_benchmarks, missing) for row in study.config.rows)
    first = next(iter(examined.values()), None)
    questions = _score(first, over_benchmarks)[1] if first else 0
    return Findings(study.config.name, measure, questions, tuple(one.seed for one in study.config.seeds), rows)


def verdict(change: Change | None, paper: InPaper | None) -> str:
    """What ours says to the paper's difference; where the paper has none, whether ours shows."""
    if change is None:
        return ""
    ours = "+" if change.both.value > 0 else "-"
    one_seed = " (one seed)" if len(change.by_seed) == 1 else ""
    if paper is None or paper.sign is None:
        return f"{'a difference' if change.shows else 'no difference that shows'}{one_seed}"
    if change.shows and ours == paper.sign:
        return f"reproduced: the paper's sign{one_seed}"
    reasons = [] if change.shows else ["the interval holds 0"]
    reasons += [f"the sign is {ours}, the paper's {paper.sign}"] if ours != paper.sign else []
    return f"{NOT_REPRODUCED}: {', and '.join(reasons)}{one_seed}"


def change_of(by_seed: Mapping[int, Interval]) -> Change:
    """Of paired differences by seed, at least one."""
    values = [one.value for one in by_seed.values()]
    mean, n = statistics.mean(values), sum(one.n for one in by_seed.values())
    low, high = (statistics.mean(getattr(one, end) for one in by_seed.values()) for end in ("low", "high"))
    over_seeds = None
    if len(values) > 1:
        half = student_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        over_seeds = Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), len(values))
    return Change(dict(by_seed), Interval(mean, low, high, n), over_seeds)


_Examined = dict[tuple[str, int], comparing.Examined]


def _row(
    row: StudyRow, study: Study, examined: _Examined, over_benchmarks: bool, missing: Mapping[str, str]
) -> RowFindings:
    seeds = [one.seed for one in study.config.seeds]
    mine = {seed: examined[row.name, seed] for seed in seeds if (row.name, seed) in examined}
    remarks = [f"seed {run.seed}: {missing[run.name]}" for run in study.runs if run.row is row and run.name in missing]
    costs = {seed: cost_of(one.run) for seed, one in mine.items()}
    changes: dict[int, Interval] = {}
    others: dict[int, Cost] = {}
    for seed, one in mine.items() if row.against else ():
        other = examined.get((str(row.against), seed))
        if row.against == BASELINE:
            found = _gain(one, over_benchmarks)
        elif other is None:
            remarks.append(f"seed {seed}: {row.against} has no result")
            continue
        else:
            found = _difference(other, one, over_benchmarks)
            others[seed] = cost_of(other.run)
        if isinstance(found, str):
            remarks.append(f"seed {seed}: {found}")
        else:
            changes[seed] = found
    unequal = _unequal([costs[seed] for seed in others], list(others.values()))
    scores = {seed: _score(one, over_benchmarks)[0] for seed, one in mine.items()}
    return RowFindings(row, scores, costs, change_of(changes) if changes else None, unequal, tuple(remarks))


def cost_of(run: Storage) -> Cost:
    """Of a run that is done; borrowed stages count as its own."""
    generate, train = (read_manifest(run, name) for name in ("generate", "train"))
    assert generate is not None
    assert train is not None
    tokens = sum(count for author, count in generate.counts["tokens"].items() if author != LABEL)
    return Cost(int(train.counts["steps"]), tokens)


def _unequal(mine: Sequence[Cost], theirs: Sequence[Cost]) -> dict[str, tuple[float, float]]:
    """Means over the same seeds of what differs by more than a hundredth."""
    found = {}
    for name, field in zip(COSTS, ("steps", "tokens"), strict=True):
        pair = [sum(getattr(one, field) for one in side) / max(1, len(side)) for side in (mine, theirs)]
        if abs(pair[0] - pair[1]) > _ALIKE * max(pair):
            found[name] = (pair[0], pair[1])
    return found


def _score(one: comparing.Examined, over_benchmarks: bool) -> tuple[float, int]:
    """The student's, and of how many questions."""
    if over_benchmarks:
        found = (one.results or {})["mean"][STUDENT]["interval"]
    else:
        found = one.run.read_json(f"evaluation/{STUDENT}/scores.json")["accuracy"]
    return found["value"], found["n"]


def _gain(one: comparing.Examined, over_benchmarks: bool) -> Interval | str:
    """Of the student over the model that it was."""
    if over_benchmarks:
        found = (one.results or {})["mean"][STUDENT]["gain"]
    else:
        found = one.run.read_json(f"evaluation/{STUDENT}/scores.json")["gain"]
    return Interval(**found) if found else "no gain over the baseline is told"


def _difference(other: comparing.Examined, one: comparing.Examined, over_benchmarks: bool) -> Interval | str:
    """one - other, or why there is none."""
    found = comparing.compare(other, one)
    if over_benchmarks:
        refused = "; ".join(f"{row.name}: {said}" for row in found.rows[1:] for said in row.refused)
        return found.mean or refused or "no benchmark is in both"
    return found.rows[0].difference or "; ".join(found.rows[0].refused)
