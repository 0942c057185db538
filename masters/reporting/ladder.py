"""The ladder of accuracies: baseline, teachers, trained student."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from masters.data.manifests import read_manifest
from masters.data.storage import Storage


@dataclass(frozen=True)
class Rung:
    """One model of the ladder; `scores` as in evaluation/<model>/scores.json."""

    name: str
    label: str
    scores: dict[str, Any]


def read_ladder(run: Storage) -> list[Rung]:
    """The models of a finished evaluation: baseline, student, teachers."""
    manifest = read_manifest(run, "evaluate")
    assert manifest is not None
    names = manifest.counts["models"]
    order = [name for name in ("baseline", "student") if name in names]
    order += [name for name in names if name not in order]
    labels = {"student": "student (trained)", "baseline": "baseline"}
    return [
        Rung(name, labels.get(name, f"teacher {name}"), run.read_json(f"evaluation/{name}/scores.json"))
        for name in order
    ]


def ladder_table(rungs: list[Rung]) -> Table:
    """For the terminal; accuracies in percent."""
    questions = rungs[0].scores["accuracy"]["n"]
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1),
        title=f"{questions:,} held-out questions",
        title_justify="left",
    )
    table.add_column("")
    for heading in ("accuracy", "95 % interval", "parameters", "paired gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rung in rungs:
        accuracy, gain = rung.scores["accuracy"], rung.scores["gain"]
        against = (
            ""
            if rung.name == "baseline"
            else f"{_points(gain['value'], '+')} [{_points(gain['low'], '+')}, {_points(gain['high'], '+')}]"
        )
        interval = f"{_points(accuracy['low'])} to {_points(accuracy['high'])}"
        table.add_row(rung.label, _points(accuracy["value"]), interval, millions(rung.scores["parameters"]), against)
    return table


def millions(count: int) -> str:
    """A number of parameters as people say it: 0.40 M, 7.62 B."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _points(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}"
