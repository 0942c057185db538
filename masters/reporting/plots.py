"""Plots of the report, as SVG text. Readable in black and white: series differ in marker and line style, not only in colour."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from masters.reporting.benchmarks import MEAN
from masters.reporting.ladder import Rung
from masters.reporting.levels import LevelStudent
from masters.reporting.statistics import Interval

Array = np.ndarray
BLUE, ORANGE, GREY, GREEN = "#2b5d8c", "#c8641e", "#8a8f98", "#3f7d4e"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "masters",  # equal data, equal bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e6ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_POINTS = 1000  # of a line at most: more than there are pixels would only make the page large
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v")
_PANELS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("nats per token", {"JSD to the teacher": "divergence", "KL to the start": "kl_nats", "NLL": "loss_sft"}, False),
    (
        "gradient norm",
        {"policy": "gradient_norm_policy", "JSD": "gradient_norm_distill", "KL": "gradient_norm_kl"},
        True,
    ),
    ("log p per token", {"right": "log_probability_right", "wrong": "log_probability_wrong"}, False),
    (
        "seconds per step",
        {
            "frozen": "time_frozen",
            "student": "time_student",
            "objective": "time_objective",
            "waiting: data": "time_data",
            "ranks": "time_ranks",
        },
        False,
    ),
    ("tokens/s, student", {"tokens/s": "tokens_per_second"}, False),
)
"""Of the training plot: label of the axis, the lines with their columns in metrics.jsonl, and whether the axis is logarithmic."""


def ladder(rungs: Sequence[Rung]) -> str:
    """Accuracy of every model with its 95 % interval."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.55 * len(rungs) + 0.8))
        for place, rung in enumerate(reversed(rungs)):
            accuracy = rung.scores["accuracy"]
            value, low, high = (100 * accuracy[key] for key in ("value", "low", "high"))
            colour = {"student": ORANGE, "baseline": GREY}.get(rung.name, BLUE)
            axes.barh(
                place,
                value,
                color=colour,
                height=0.62,
                hatch="//" if rung.name == "student" else None,
                edgecolor="white",
            )
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], color="#1c1f24", capsize=3, lw=1.2)
            axes.text(high + 1, place, f"{value:.1f}", va="center")
        axes.set_yticks(range(len(rungs)), [rung.label for rung in reversed(rungs)])
        axes.set_xlim(0, 108)
        axes.set_xlabel(f"accuracy, % of {rungs[0].scores['accuracy']['n']:,} questions, with 95 % intervals")
        axes.grid(axis="y", visible=False)
        return _svg(figure)


def by_type(rungs: Sequence[Rung]) -> str:
    """Accuracy by question type, a marker for each model."""
    kinds = sorted(rungs[0].scores["by_type"], key=lambda k: -rungs[0].scores["by_type"][k]["value"])
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.3 * len(kinds) + 1.0))
        for index, rung in enumerate(rungs):
            values = [100 * rung.scores["by_type"][kind]["value"] for kind in kinds]
            colour = {"student": ORANGE, "baseline": GREY}.get(rung.name, BLUE)
            axes.plot(
                values,
                range(len(kinds)),
                _MARKERS[index % len(_MARKERS)],
                color=colour,
                ms=7,
                label=rung.label,
                ls="none",
            )
        for place, kind in enumerate(kinds):
            ends = [100 * rung.scores["by_type"][kind]["value"] for rung in rungs]
            axes.plot([min(ends), max(ends)], [place, place], color="#c9cdd4", lw=1, zorder=0)
        labels = [f"{kind or 'all'} (n={rungs[0].scores['by_type'][kind]['n']})" for kind in kinds]
        axes.set_yticks(range(len(kinds)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("accuracy, %")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(rungs), fontsize=8.5)
        return _svg(figure)


def training(rows: Sequence[Mapping[str, Any]], ratios: Sequence[float]) -> str:
    """Mask ratio, terms of the objective, their gradients, log-probabilities of right and wrong responses, and time, by step."""
    panels = [
        ("mask ratio r", {"mask ratio": list(ratios)}, False),
        *((label, _series(rows, wanted), logarithmic) for label, wanted, logarithmic in _PANELS),
    ]
    panels = [panel for panel in panels if panel[1]]
    shown = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _POINTS)).round().astype(int))
    steps = np.array([row["step"] + 1 for row in rows])[shown]
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(
            -(-len(panels) // 2), 2, figsize=(10.6, 2.5 * -(-len(panels) // 2)), sharex=True, squeeze=False
        )
        for axes, (label, series, logarithmic) in zip(grid.flat, panels, strict=False):
            for index, (name, values) in enumerate(series.items()):
                colour = (BLUE, ORANGE, GREY)[index % 3]
                if label.startswith("mask"):
                    axes.step(steps, np.asarray(values)[shown], where="mid", color=colour, lw=1.8)
                else:
                    axes.plot(
                        steps, _smooth(values)[shown], _LINES[index % len(_LINES)], color=colour, lw=1.6, label=name
                    )
            axes.set_ylabel(label)
            if logarithmic:
                axes.set_yscale("log")
            if len(series) > 1:
                axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series), fontsize=8.5)
        for axes in grid[-1]:
            axes.set_xlabel("step (lines are running means)")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        figure.tight_layout()
        return _svg(figure)


def by_level(students: Sequence[LevelStudent], baseline: Mapping[str, Any], ratios: Sequence[float], split: str) -> str:
    """Accuracy of the students at the ends of the levels, from the baseline on, beside the mask ratio of every step."""
    points: dict[str, list[tuple[int, Mapping[str, Any]]]] = {
        split: [(0, baseline), *((s.steps, s.accuracy) for s in students)],
        "validation": [(s.steps, s.validation) for s in students if s.validation is not None],
    }
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(10.6, 3.4))
        shift = len(ratios) / 160  # intervals of one level would hide each other
        for index, (name, found) in enumerate((name, found) for name, found in points.items() if found):
            steps = [step + index * shift for step, _ in found]
            values, lows, highs = ([100 * interval[key] for _, interval in found] for key in ("value", "low", "high"))
            spread = [
                [v - low for v, low in zip(values, lows, strict=True)],
                [high - v for v, high in zip(values, highs, strict=True)],
            ]
            label = f"accuracy, {found[-1][1]['n']:,} questions of {name}"
            line, colour = f"{_LINES[index]}{_MARKERS[index]}", (ORANGE, BLUE)[index]
            axes.errorbar(steps, values, yerr=spread, fmt=line, color=colour, capsize=3, lw=1.6, ms=6, label=label)
        mine = next(s for s in students if s.chosen)
        axes.plot(
            mine.steps,
            100 * mine.accuracy["value"],
            "o",
            ms=15,
            mfc="none",
            mec="#1c1f24",
            mew=1.4,
            label="the run's student",
        )
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        right.stairs(
            ratios, range(len(ratios) + 1), baseline=None, color=GREY, lw=1.6, ls=":", label="mask ratio r (right)"
        )
        right.set_ylim(-0.02 * max(ratios) - 0.005, 1.3 * max(ratios) + 0.01)
        right.grid(visible=False)
        right.set_ylabel("mask ratio r")
        axes.set_xlabel("steps of training; 0 is the baseline")
        axes.set_ylabel("accuracy, %, with 95 % intervals")
        handles, labels = (
            a + b for a, b in zip(axes.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
        )
        axes.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(labels), fontsize=8.5)
        return _svg(figure)


def gains(found: Mapping[str, Interval]) -> str:
    """Forest plot: paired gains over the baseline with 95 % intervals, the mean (the names that begin so) below a line.

    Full marks are of intervals without 0, hollow ones of those that hold it; diamonds are means.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(10.6, 0.36 * len(found) + 1.1))
        axes.axvline(0, color="#1c1f24", lw=1)
        for place, (name, gain) in enumerate(found.items()):
            value, low, high = (100 * bound for bound in (gain.value, gain.low, gain.high))
            mean, sure = name.startswith(MEAN), gain.low > 0 or gain.high < 0
            if mean:
                axes.axhline(place - 0.5, color="#c9cdd4", lw=1)
            axes.errorbar(
                value,
                place,
                xerr=[[value - low], [high - value]],
                fmt="D" if mean else "o",
                color=ORANGE if mean else BLUE,
                mfc=None if sure else "white",
                ms=7,
                capsize=3,
                lw=2.2 if mean else 1.4,
            )
            words = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
            axes.annotate(words, (1.01, place), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(range(len(found)), [f"{name} (n={gain.n:,})" for name, gain in found.items()])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(
            "paired gain of the student over the baseline, points, with 95 % intervals; full marks: without 0"
        )
        axes.grid(axis="y", visible=False)
        return _svg(figure)


def divergences(by_author: Mapping[str, Array]) -> str:
    """Distribution of D by author: boxes from the 25th to the 75th percentile, whiskers from the 5th to the 95th."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.36 * len(by_author) + 0.8))
        axes.boxplot(
            list(by_author.values()), orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.6,
            medianprops={"color": ORANGE, "lw": 2}, boxprops={"color": BLUE},
            whiskerprops={"color": BLUE}, capprops={"color": BLUE},
        )  # fmt: skip
        axes.set_yticks(
            range(1, len(by_author) + 1),
            [f"{name} (n={len(values):,})" for name, values in by_author.items()],
        )
        axes.invert_yaxis()
        axes.set_xlabel("D: JSD to the masked teacher, token mean")
        return _svg(figure)


def rewards(distill: Array, advantage: Array) -> str:
    """Distributions of the distillation reward and of the advantage."""
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(1, 2, figsize=(10.6, 2.2))
        for axes, values, label in zip(grid, (distill, advantage), ("distillation reward", "advantage"), strict=True):
            axes.hist(values, bins=40, color=BLUE, edgecolor="white", lw=0.3)
            axes.set_xlabel(label)
        grid[0].set_ylabel("responses")
        figure.tight_layout()
        return _svg(figure)


def verdicts(shares: Mapping[str, float]) -> str:
    """Share of right responses by author."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.36 * len(shares) + 0.8))
        axes.barh(range(len(shares)), [100 * value for value in shares.values()], color=GREEN, height=0.6)
        for place, value in enumerate(shares.values()):
            axes.text(100 * value + 1, place, f"{100 * value:.1f}", va="center")
        axes.set_yticks(range(len(shares)), list(shares))
        axes.invert_yaxis()
        axes.set_xlim(0, 108)
        axes.set_xlabel("right responses, % of judged")
        axes.grid(axis="y", visible=False)
        return _svg(figure)


def sparsity(shares: Mapping[str, Sequence[float]]) -> str:
    """Zeroed share of every matrix, a line of markers for each ratio."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(10.6, 2.6))
        for index, (ratio, values) in enumerate(shares.items()):
            axes.axhline(float(ratio), color="#c9cdd4", lw=1)
            axes.plot(values, _MARKERS[index % len(_MARKERS)], color=BLUE, ms=3, label=f"r = {ratio}")
        axes.set_xlabel("matrix, in the order of the checkpoint; grey lines are the ratios asked for")
        axes.set_ylabel("share zeroed")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=len(shares), fontsize=8.5)
        return _svg(figure)


def mix(items: Sequence[Mapping[str, Any]]) -> str:
    """Rows of each source and split; their questions and images, with boxes from the 25th to the 75th percentile and whiskers
    from the 5th to the 95th. `items` are the statistics of masters.data.mixing."""
    panels = {"characters of a question": "question", "longer side of an image, pixels": "side"}
    panels = {label: key for label, key in panels.items() if any(item[key] for item in items)}
    with mpl.rc_context(_STYLE):
        size = (10.6, 0.32 * len(items) + 0.9)
        figure, grid = plt.subplots(1, 1 + len(panels), figsize=size, sharey=True, squeeze=False)
        bars, *boxes = grid.flat
        for place, item in enumerate(items):
            train = item["split"] == "train"
            bars.barh(place, item["rows"], color=BLUE if train else GREY, height=0.6, hatch=None if train else "//")
            bars.text(item["rows"], place, f" {item['rows']:,}", va="center", fontsize=8.5)
        bars.set_yticks(range(len(items)), [f"{item['source']}, {item['split']}" for item in items])
        bars.set_ylim(len(items) - 0.4, -0.6)
        bars.set_xlim(0, 1.25 * max(item["rows"] for item in items))
        bars.set_xlabel("rows")
        for axes, (label, key) in zip(boxes, panels.items(), strict=True):
            found = {place: item[key] for place, item in enumerate(items) if item[key]}
            axes.bxp(
                [dict(zip(("whislo", "q1", "med", "q3", "whishi"), five, strict=True)) for five in found.values()],
                positions=list(found), orientation="horizontal", showfliers=False, widths=0.6, manage_ticks=False,
                medianprops={"color": ORANGE, "lw": 2}, boxprops={"color": BLUE},
                whiskerprops={"color": BLUE}, capprops={"color": BLUE},
            )  # fmt: skip
            axes.set_xlim(left=0)
            axes.set_xlabel(label)
        for axes in (bars, *boxes):
            axes.grid(axis="y", visible=False)
        figure.tight_layout()
        return _svg(figure)


def seconds(stages: Mapping[str, float]) -> str:
    """Wall time of each stage."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.3 * len(stages) + 0.8))
        axes.barh(range(len(stages)), list(stages.values()), color=GREY, height=0.6)
        axes.set_yticks(range(len(stages)), list(stages))
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.grid(axis="y", visible=False)
        return _svg(figure)


def differences(rows: Sequence[tuple[str, Interval | None, float | None]]) -> tuple[str, bytes]:
    """Differences in points with their intervals, and the paper's beside them: as SVG text, and as a PNG file.

    A row is its label, ours in [-1, 1], and the paper's in points, where it prints one.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.42 * len(rows) + 1.2))
        for place, (_, ours, theirs) in enumerate(rows):
            if ours:
                value, low, high = (100 * bound for bound in (ours.value, ours.low, ours.high))
                shows = low > 0 or high < 0
                axes.plot([low, high], [place, place], color=BLUE, lw=2, ls="-" if shows else ":")
                axes.plot(value, place, "o", color=BLUE, mfc=BLUE if shows else "white", ms=7)
            if theirs is not None:
                axes.plot(theirs, place, "D", color=ORANGE, ms=6)
        axes.plot([], [], "o-", color=BLUE, label="ours, 95 %")
        axes.plot([], [], "o:", color=BLUE, mfc="white", label="ours, the interval holds 0")
        axes.plot([], [], "D", color=ORANGE, label="the paper's")
        axes.axvline(0, color="#1c1f24", lw=1)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("difference, points")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, fontsize=8.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
        return _svg(figure), buffer.getvalue()


def _series(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> dict[str, list[float]]:
    """Columns that were logged; a step without a value takes the one before it."""
    found = {}
    for name, key in wanted.items():
        if any(key in row for row in rows):
            values: list[float] = []
            for row in rows:
                values.append(row.get(key, values[-1] if values else float("nan")))
            found[name] = values
    return found


def _smooth(values: Sequence[float]) -> Array:
    """Centred running mean over a twentieth of the run; zeros of a term that has not begun are left out of it."""
    numbers, reach = np.asarray(values, np.float64), max(1, len(values) // 40)
    counted = np.isfinite(numbers) & (np.abs(numbers) > 1e-8)
    sums, counts = (np.cumsum(np.append(0.0, kept)) for kept in (np.where(counted, numbers, 0.0), counted))
    places = np.arange(len(numbers))
    first, behind = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(numbers))
    inside = counts[behind] - counts[first]
    return np.divide(sums[behind] - sums[first], inside, out=np.full(len(numbers), np.nan), where=inside > 0)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
