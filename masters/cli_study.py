"""The command `masters study`."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from masters.cluster.commands import Address, Namespace, Release

if TYPE_CHECKING:
    from masters.config.study import Study
    from masters.reporting.progress import Screen
    from masters.study.sharing import PlannedRun

_MASTERS = (sys.executable, "-c", "from masters.cli import main; main()")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("study")(study)


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="A YAML file; docs/study.md has one.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and what they share; start none.")] = False,
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
) -> None:
    """Run rows of recipes over seeds, one run after the other, sharing stages; tell what came out beside the paper."""
    from masters.config.study import load_study
    from masters.reporting.progress import Screen

    loaded = load_study(file)
    if address and (namespace or release):
        raise ValueError("--address and --release name a cluster twice. Give one of them.")
    from masters.study.running import INTERRUPTED, in_words, run_study
    from masters.study.sharing import LAST, plan_study, steps_of

    screen, planned = Screen(), plan_study(loaded)
    if dry_run:
        for line in map(in_words, steps_of(planned)):
            screen.text(line)
        return
    options = [
        word
        for name, value in (("--address", address), ("--namespace", namespace), ("--release", release))
        for word in ((name, value) if value else ())
    ]

    def start(recipe: Path, overrides: Sequence[str]) -> int:
        given = [word for override in overrides for word in ("--set", override)]
        words = ["submit" if options else "run", str(recipe), *given, *options]
        screen.text(shlex.join(["masters", *words]))
        return _waited_for([*_MASTERS, *words])

    try:
        ended = run_study(loaded, planned, start, screen)
    except KeyboardInterrupt:
        _tell(loaded, planned, {one.run.name: "not run yet" for one in planned if LAST not in one.done()}, screen)
        typer.echo(f"\ninterrupted; what is finished is kept. Continue: masters study {file}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    missing = {end.name: end.words for end in ended if not end.done}
    _tell(loaded, planned, missing, screen)
    if missing:
        typer.echo(f"error    {len(missing)} of {len(ended)} runs have no result: {', '.join(missing)}", err=True)
        raise typer.Exit(1)


def _waited_for(command: Sequence[str]) -> int:
    """The exit status of a child, which is given the time that it needs to end when this process is interrupted."""
    from masters.study.running import INTERRUPTED

    told: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if number == signal.SIGTERM:  # Ctrl-C reaches both
            for child in children:
                child.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        children.append(subprocess.Popen(command))
        status = children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return INTERRUPTED if told else status


def _tell(loaded: "Study", planned: "Sequence[PlannedRun]", missing: Mapping[str, str], screen: "Screen") -> None:
    from masters.data.storage import Storage
    from masters.study.findings import find
    from masters.study.report import PAGE, study_table, verdict_lines, write_report

    findings, folder = find(loaded, planned, missing), Storage(loaded.folder)
    write_report(findings, missing, folder)
    screen.table(study_table(findings))
    for line in verdict_lines(findings):
        screen.text(line)
    screen.text(f"report   {folder.address(PAGE)}")
