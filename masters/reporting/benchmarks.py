"""Results of benchmarks as people read them: the table at the end of a run, and the rows of the report's section."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from masters.data.storage import Storage
from masters.reporting.statistics import Interval

RESULTS = "evaluation/benchmarks/results.json"
CHANGED = "evaluation/benchmarks/changed.parquet"
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """One model on one benchmark, in words.

    `n` counts what the score is the mean of, `judged` and `unresolved` are shares of the answered rows. `gain` is empty for the
    baseline.
    """

    benchmark: str
    model: str
    n: str
    value: str
    interval: str
    gain: str
    judged: str
    unresolved: str
    beside: str


@dataclass(frozen=True)
class Line:
    """One benchmark of the report, or the mean over some: scores by model, and the student's gain over the baseline."""

    name: str
    title: str
    n: str
    scores: Mapping[str, str]
    gain: Interval | None
    beside: str


@dataclass(frozen=True)
class InPaper:
    """A model's score that the paper prints, beside ours; in percent. `unknown`: what is not known of the benchmark."""

    benchmark: str
    column: str
    model: str
    theirs: str
    ours: str
    unknown: str


def read_results(run: Storage) -> dict[str, Any] | None:
    """What evaluate found, as `masters.stages.benchmarks` wrote it; None where the recipe wants no benchmark."""
    return run.read_json(RESULTS) if run.exists(RESULTS) else None


def lines_of(results: Mapping[str, Any], student: str) -> list[Line]:
    """One line for each benchmark, in the recipe's order, and one for the mean."""
    lines = []
    for benchmark in results["benchmarks"]:
        scores = benchmark["scores"]
        told = {model: _scored(score["value"], score["interval"]) for model, score in scores.items()}
        interval = scores[student]["interval"]
        count = interval["n"] if interval else scores[student]["rows"]
        beside = [f"{model}: {said}" for model, score in scores.items() if (said := _beside(score))]
        change = scores[student]["gain"]
        gain = Interval(**change) if change else None
        lines.append(Line(benchmark["name"], benchmark["title"], f"{count:,}", told, gain, "; ".join(beside)))
    if results["mean"]:
        means = results["mean"]
        told = {model: _scored(mean["interval"]["value"], mean["interval"]) for model, mean in means.items()}
        change = means[student]["gain"]
        name, count = f"{MEAN} of {len(results['mean_of'])}", f"{means[student]['interval']['n']:,}"
        lines.append(Line(name, "over the paper's columns", count, told, Interval(**change) if change else None, ""))
    return lines


def in_paper(results: Mapping[str, Any]) -> list[InPaper]:
    """Whatever the paper prints of models that were asked here; of the student what it made of the same model."""
    return [
        InPaper(
            benchmark["name"],
            benchmark["column"],
            model,
            _points(printed),
            _scored(benchmark["scores"][model]["value"], benchmark["scores"][model]["interval"]),
            "; ".join(benchmark["unverified"]),
        )
        for benchmark in results["benchmarks"]
        for model, printed in benchmark["paper"].items()
    ]


def read_changes(run: Storage) -> list[dict[str, Any]]:
    """Answers that training changed, as `BENCHMARK_CHANGES` has them; none where evaluate kept none."""
    return run.read_table(CHANGED).to_pylist() if run.exists(CHANGED) else []


def rows_of(results: Mapping[str, Any]) -> Iterator[Row]:
    """Benchmarks in the recipe's order, models in each, and the mean last."""
    for benchmark in results["benchmarks"]:
        for model, score in benchmark["scores"].items():
            yield Row(
                benchmark["name"],
                model,
                f"{score['interval']['n']:,}" if score["interval"] else f"{score['rows']:,}",
                _points(score["value"]) if score["value"] is not None else "no score",
                _bounds(score["interval"]),
                "" if model == "baseline" else _gain(score["gain"]),
                _share(score, "judged"),
                _share(score, "unresolved"),
                _beside(score),
            )
    for model, mean in results["mean"].items():
        value, change = mean["interval"], "" if model == "baseline" else _gain(mean["gain"])
        title = f"{MEAN} of {len(results['mean_of'])}"
        yield Row(title, model, f"{value['n']:,}", _points(value["value"]), _bounds(value), change, "", "", "")


def _share(score: Mapping[str, Any], name: str) -> str:
    return f"{100 * score[name] / max(1, score['answered']):.0f} %"


def _beside(score: Mapping[str, Any]) -> str:
    """What is missing or cut off."""
    return ", ".join(f"{score[name]:,} {name}" for name in ("failed", "quarantined", "truncated") if score[name])


def remarks_of(results: Mapping[str, Any]) -> list[str]:
    """What is odd about files and scores, each once, the benchmark's name before it; and how everything was asked."""
    found = []
    for benchmark in results["benchmarks"]:
        told = [remark for score in benchmark["scores"].values() for remark in score["remarks"]]
        found += [f"{benchmark['name']}: {remark}" for remark in dict.fromkeys([*benchmark["remarks"], *told])]
    left_out = [b["name"] for b in results["benchmarks"] if b["name"] not in results["mean_of"]]
    if left_out and results["mean_of"]:
        found.append(f"the mean is without {', '.join(left_out)}: not every model has a score there")
    judge = results["judge"]
    found.append(
        f"what the rules leave open was read by {judge}, which does not see the right answer, but grades MM-Vet by it"
        if judge
        else "no judge: what the rules leave open counts as wrong (unresolved)"
    )
    return found


def results_table(results: Mapping[str, Any]) -> Table:
    """For the terminal, 80 columns wide; everything in percent, the gains in points."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), title="benchmarks", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("n", "score, 95 %", "paired gain", "judged", "open"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = ""
    for row in rows_of(results):
        if row.benchmark != before:
            table.add_row(row.benchmark)
        before = row.benchmark
        table.add_row(f"  {row.model}", row.n, f"{row.value} {row.interval}", row.gain, row.judged, row.unresolved)
    return table


def _scored(value: float | None, interval: Mapping[str, float] | None) -> str:
    return "no score" if value is None else f"{_points(value)} {_bounds(interval)}"


def _bounds(interval: Mapping[str, float] | None) -> str:
    return f"[{_points(interval['low'])}, {_points(interval['high'])}]" if interval else ""


def _gain(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{_points(interval['value'], '+')} [{_points(interval['low'], '+')}, {_points(interval['high'], '+')}]"


def _points(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}"
