"""Plots of the report, as SVG text. Readable in black and white: series differ in marker and line style, not only in colour."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from masters.reporting.ladder import Rung

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
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v")


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
    """Mask ratio, terms of the objective, their gradients, and log-probabilities of right and wrong responses, by step."""
    panels = [
        ("mask ratio r", {"mask ratio": list(ratios)}, False),
        (
            "nats per token",
            _series(rows, {"JSD to the teacher": "divergence", "KL to the start": "kl_nats", "NLL": "loss_sft"}),
            False,
        ),
        (
            "gradient norm",
            _series(
                rows,
                {"policy": "gradient_norm_policy", "JSD": "gradient_norm_distill", "KL": "gradient_norm_kl"},
            ),
            True,
        ),
        (
            "log p per token",
            _series(rows, {"right": "log_probability_right", "wrong": "log_probability_wrong"}),
            False,
        ),
    ]
    panels = [panel for panel in panels if panel[1]]
    steps = [row["step"] + 1 for row in rows]
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(
            -(-len(panels) // 2), 2, figsize=(10.6, 2.5 * -(-len(panels) // 2)), sharex=True, squeeze=False
        )
        for axes, (label, series, logarithmic) in zip(grid.flat, panels, strict=False):
            for index, (name, values) in enumerate(series.items()):
                colour = (BLUE, ORANGE, GREY)[index % 3]
                if label.startswith("mask"):
                    axes.step(steps, values, where="mid", color=colour, lw=1.8)
                else:
                    axes.plot(steps, _smooth(values), _LINES[index % len(_LINES)], color=colour, lw=1.6, label=name)
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


def divergences(by_author: Mapping[str, Sequence[float]]) -> str:
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


def rewards(distill: Sequence[float], advantage: Sequence[float]) -> str:
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


def _smooth(values: Sequence[float]) -> list[float]:
    """Centred running mean over a twentieth of the run; zeros of a term that has not begun are left out of it."""
    reach = max(1, len(values) // 40)
    result = []
    for place in range(len(values)):
        window = [v for v in values[max(0, place - reach) : place + reach + 1] if v == v and abs(v) > 1e-8]
        result.append(sum(window) / len(window) if window else float("nan"))
    return result


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
