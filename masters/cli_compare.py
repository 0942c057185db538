"""The command `masters compare`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from masters.benchmarks.comparing import Comparison
    from masters.reporting.statistics import Interval


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("compare")(compare)


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run directory, evaluated.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="All numbers, for a script.")] = False,
) -> None:
    """Compare two runs' students: own test split, benchmarks, the mean; paired differences with intervals."""
    from rich.console import Console

    from masters.benchmarks import comparing

    runs = [comparing.examined(uri) for uri in (first, second)]
    found = comparing.compare(*runs)
    if as_json:
        typer.echo(json.dumps({"runs": [one.run.uri for one in runs], **found.as_data}, indent=1))
        return
    for letter, one in zip("AB", runs, strict=True):
        typer.echo(f"{letter}  {one.run.uri}")
    typer.echo()
    Console(highlight=False, emoji=False).print(comparison_table(found))
    for line in _beside(found):
        typer.echo(line)


def comparison_table(found: "Comparison") -> "Table":
    """For the terminal, 80 columns wide; everything in percent, differences in points."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), title="students", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("A", "B", "n in both", "B - A, 95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.rows:
        change = row.difference.in_points if row.difference else "no difference"
        table.add_row(
            row.name, _points(row.first), _points(row.second), f"{row.common:,}" if row.common else "", change
        )
    if found.mean:
        title = f"mean of {len(found.mean_of)} benchmark{'s' if len(found.mean_of) > 1 else ''}"
        table.add_row(title, *map(_points, found.means), f"{found.mean.n:,}", found.mean.in_points)
    return table


def _beside(found: "Comparison") -> list[str]:
    lines = [f"{row.name}: {said}" for row in found.rows for said in (*row.refused, *row.remarks)]
    lines += found.remarks
    left_out = [row.name for row in found.rows[1:] if row.name not in found.mean_of]
    if left_out and found.mean:
        lines.append(f"the mean is without {', '.join(left_out)}")
    return ["", *lines] if lines else []


def _points(interval: "Interval | None") -> str:
    return f"{100 * interval.value:.1f}" if interval else "no score"
