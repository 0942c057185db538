"""The command `masters logs`: of a job while its cluster is there, of a run directory at any time."""

from collections.abc import Iterable
from typing import Annotated

import typer

from masters.cluster import commands


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=commands.PANEL)(logs)


def logs(
    job: Annotated[
        str,
        typer.Argument(
            metavar="[JOB|DIRECTORY]",
            help="Id of a job, or name of a run or RayJob; the latest if left out. Or a path or address with a slash: a run "
            "directory, or one of its logs.",
        ),
    ] = "",
    go_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: commands.Address = "",
    namespace: commands.Namespace = "",
    release: commands.Release = "",
    verbose: commands.Verbose = False,
) -> None:
    """What a job printed. A run directory keeps the log of every attempt, also when the cluster is gone."""
    if not commands.is_place(job):
        gone = commands.show_logs(job, address, namespace, release, go_on=go_on, verbose=verbose)
        if gone is None:
            return
        _show_kept(gone, verbose, said="Its cluster is gone, or says nothing. ")
        return
    if address or namespace or release:
        raise ValueError(
            f"{job}: is a run directory, which no cluster is needed for. Leave --address, -n, --release out."
        )
    if go_on:
        raise ValueError(f"--follow {job}: a kept log does not say when its run ends. Leave it out, or name the job.")
    _show_kept(job, verbose)


def _show_kept(place: str, verbose: bool, said: str = "") -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise ValueError(f"{said}Its log is in {place}/logs. To read it from here, install pyarrow.")
    from masters.reporting.run_log import kept_lines

    try:
        where, lines, others = kept_lines(place)
    except ValueError as error:
        raise ValueError(f"{said}{error}") from None
    typer.echo(f"{said}From {where}" + (f"; {_few(others)}" if others else ""), err=True)
    for line in lines:
        commands.show_line(line, verbose)


def _few(others: Iterable[str]) -> str:
    *_, latest = others
    return f"the attempt before it is {latest}"
