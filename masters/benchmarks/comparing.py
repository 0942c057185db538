"""The students of two runs, on the questions that both were asked: those of the recipe's own split, and benchmarks.

A difference means something where the two were asked alike. Where they were not (other files, prompts, decoding, lengths, pixels,
judges, splits), both scores are told, and why there is no difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from masters.benchmarks.facts import Benchmark, benchmark_named
from masters.benchmarks.intervals import average, average_gain, gain
from masters.benchmarks.questions import Question
from masters.benchmarks.scoring import Outcome, Score, summarise
from masters.data.manifests import read_manifest
from masters.data.samples import split_tables
from masters.data.storage import Storage
from masters.data.tables import BENCHMARK_OUTCOMES
from masters.reporting.benchmarks import read_results
from masters.reporting.statistics import Interval, paired_interval

STUDENT = "student"

_ALIKE = ("evaluate.temperature", "evaluate.top_p", "evaluate.top_k", "images.")
_OWN_ALIKE = ("evaluate.split", "evaluate.max_tokens", "numeric_tolerance", *_ALIKE)
_UNSAID = {"evaluate.temperature": "0", "numeric_tolerance": "-"}
_COLUMNS = ["sample_id", "image_ids", "system", "history", "question", "answers", "options", "answer_type"]


@dataclass(frozen=True)
class Examined:
    """A run whose evaluate is done.

    Attributes:
        run: its directory.
        parts: what its scores depend on, flat, as the manifest has it.
        results: of benchmarks; None where the recipe wanted none.
    """

    run: Storage
    parts: Mapping[str, Any]
    results: Mapping[str, Any] | None

    @property
    def split(self) -> str:
        """The recipe's own, that was asked."""
        return str(self.parts["evaluate.split"])

    @property
    def benchmarks(self) -> dict[str, Mapping[str, Any]]:
        """What results.json says of each, by name."""
        return {found["name"]: found for found in (self.results or {"benchmarks": ()})["benchmarks"]}


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes:
        name: of the split or the benchmark.
        first, second: the scores; None where a run has none.
        difference: second - first over the questions that both were asked, paired; None where they were not asked alike.
        common: number of these questions.
        refused: why there is no difference, one sentence each.
        remarks: what to know of a difference.
    """

    name: str
    first: Interval | None
    second: Interval | None
    difference: Interval | None = None
    common: int = 0
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Of two runs.

    Attributes:
        rows: the split, then benchmarks that both have, in the order of the first.
        mean_of: benchmarks that have a difference.
        means: of these, first and second; empty for none.
        mean: difference of the means.
        remarks: on all of it.
    """

    rows: tuple[Row, ...]
    mean_of: tuple[str, ...]
    means: tuple[Interval, ...]
    mean: Interval | None
    remarks: tuple[str, ...]

    @property
    def as_data(self) -> dict[str, Any]:
        """For a script."""
        return asdict(self)


def examined(uri: str) -> Examined:
    """A run directory, of any storage. Raises ValueError where there is none, or its evaluate is not done."""
    run = Storage(uri)
    if not run.exists("run.json"):
        raise ValueError(f"{uri}: is no run directory: run.json is not there. `masters check RECIPE` names the run's.")
    manifest = read_manifest(run, "evaluate")
    if manifest is None or manifest.status != "done":
        raise ValueError(
            f"{uri}: its student has no score: evaluate is not done there. Run `masters evaluate` with its recipe."
        )
    return Examined(run, manifest.parts, read_results(run))


def compare(first: Examined, second: Examined) -> Comparison:
    """Both students, row by row, and in the mean over benchmarks."""
    rows, pairs = [_own_split(first, second)], list[tuple[Score, Score]]()
    for name in first.benchmarks:
        if name in second.benchmarks:
            row, pair = _benchmark(name, first, second)
            rows.append(row)
            pairs += [pair] if pair else []
    sides = list(zip(*pairs, strict=True))
    return Comparison(
        tuple(rows),
        tuple(pair[0].benchmark for pair in pairs),
        tuple(average(side) for side in sides),
        average_gain(pairs) if pairs else None,
        tuple(_remarks(first, second)),
    )


def _remarks(first: Examined, second: Examined) -> Iterator[str]:
    for side, one, other in (("first", first, second), ("second", second, first)):
        alone = [name for name in one.benchmarks if name not in other.benchmarks]
        if alone:
            yield f"only the {side} run was asked {', '.join(alone)}"
    changed = _unlike(first, second, ("engine.",))
    if changed:
        yield f"the engines were not set alike: {'; '.join(changed)}"


def _unlike(first: Examined, second: Examined, wanted: Sequence[str]) -> list[str]:
    """What differs among the parts of these names, or below those that end with a full stop."""
    keys = {key for one in (first, second) for key in one.parts}
    found = sorted(
        key for key in keys if any(key == name or (name[-1] == "." and key.startswith(name)) for name in wanted)
    )
    return [
        f"{key} is {one} in the first run, {other} in the second"
        for key in found
        for one, other in [[_told(key, run) for run in (first, second)]]
        if one != other
    ]


def _told(key: str, run: Examined) -> str:
    return str(run.parts.get(key, _UNSAID.get(key, "left out")))


def _own_split(first: Examined, second: Examined) -> Row:
    before, after = (
        Interval(**one.run.read_json(f"evaluation/{STUDENT}/scores.json")["accuracy"]) for one in (first, second)
    )
    row = Row(" / ".join(dict.fromkeys([first.split, second.split])), before, after)
    unlike = _unlike(first, second, _OWN_ALIKE)
    if unlike:
        return replace(row, refused=tuple(unlike))
    asked = [_asked(one) for one in (first, second)]
    common = [key for key, what in asked[0].items() if asked[1].get(key) == what]
    if not common:
        return replace(row, refused=("no question is in both: the data are others",))
    mine, theirs = ([found.get(key, False) for key in common] for found in map(_right, (first, second)))
    clusters = [asked[0][key][0][0] if asked[0][key][0] else key for key in common]
    difference = paired_interval(mine, theirs, clusters)
    remarks = []
    if len(common) < max(map(len, asked)):
        totals = " and ".join(f"{len(questions):,}" for questions in asked)
        remarks.append(f"the difference is over the {len(common):,} questions that are in both, of {totals}")
    return replace(row, difference=difference, common=len(common), remarks=tuple(remarks))


def _asked(one: Examined) -> dict[str, tuple[tuple[str, ...], str]]:
    """By sample: its images, by content, and the rest of what is asked and accepted."""
    rows = [row for table in split_tables(one.run, one.split, _COLUMNS) for row in table.to_pylist()]
    return {
        row["sample_id"]: (
            tuple(name.rpartition("/")[2] for name in row["image_ids"] or ()),
            str([row[column] for column in _COLUMNS[2:]]),
        )
        for row in rows
    }


def _right(one: Examined) -> dict[str, bool]:
    table = one.run.read_table(f"evaluation/{STUDENT}/predictions.parquet", ["sample_id", "correct"])
    return dict(zip(table["sample_id"].to_pylist(), table["correct"].to_pylist(), strict=True))


@dataclass(frozen=True)
class _File:
    """What `summarise` needs of a benchmark's file."""

    benchmark: Benchmark
    questions: tuple[Question, ...]
    remarks: tuple[str, ...] = ()


def _benchmark(name: str, first: Examined, second: Examined) -> tuple[Row, tuple[Score, Score] | None]:
    told = [one.benchmarks[name]["scores"][STUDENT] for one in (first, second)]
    one, other = (Interval(**score["interval"]) if score["interval"] else None for score in told)
    row = Row(name, one, other)
    refused = _unlike(first, second, (f"benchmarks.{name}.", "max_image_pixels", *_ALIKE))
    tables = [one.run.read_table(f"evaluation/benchmarks/{name}/{STUDENT}.parquet") for one in (first, second)]
    if any("cluster" not in table.column_names for table in tables):
        refused.append("an earlier version of Masters evaluated it; evaluate it anew")
    rows = [table.to_pylist() for table in tables]
    refused += _other_judge(benchmark_named(name), first, second, rows)
    for side, score in zip(("first", "second"), told, strict=True):
        if score["value"] is None:
            refused.append(f"the {side} run has no score: {score['remarks'][-1]}")
    if refused:
        return replace(row, refused=tuple(refused)), None
    before, after = (_score(name, found) for found in rows)
    barred = [{row["sample_id"] for row in found if row["by"] == "quarantined"} for found in rows]
    remarks = []
    if barred[0] != barred[1]:
        remarks.append(
            f"{len(barred[0] ^ barred[1]):,} rows could be asked in one run only, and count as wrong in the other"
        )
    difference = gain(before, after)
    row = replace(row, difference=difference, common=difference.n, remarks=tuple(remarks))
    return row, (before, after)


def _other_judge(
    benchmark: Benchmark, first: Examined, second: Examined, rows: Sequence[Sequence[dict[str, Any]]]
) -> list[str]:
    """What to say where the judges differ, and it made a difference: the rules left something open to them."""
    judges = [(one.results or {}).get("judge") or "nobody" for one in (first, second)]
    if judges[0] == judges[1] and not _unlike(first, second, ("benchmark_judge",)):
        return []
    no_use = benchmark.metric == "relaxed"  # no judge is asked about these
    opened = [sum(row["asked"] or (row["by"] == "nobody" and not no_use) for row in found) for found in rows]
    if not any(opened):
        return []
    others = "with other settings" if judges[0] == judges[1] else f"in the first run, {judges[1]} in the second"
    return [f"what the rules leave open ({opened[0]:,} and {opened[1]:,} answers) was read by {judges[0]} {others}"]


def _score(name: str, rows: Sequence[dict[str, Any]]) -> Score:
    """As evaluate made it. No judge is named: it was looked at before."""
    found = [Outcome(row["sample_id"], **{key: row[key] for key in BENCHMARK_OUTCOMES.names[1:]}) for row in rows]
    questions = tuple(Question(row["sample_id"], "", "", cluster=row["cluster"]) for row in rows)
    return summarise(_File(benchmark_named(name), questions), found)
