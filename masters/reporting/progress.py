"""Progress on a terminal (a bar that updates) or in a log (a line a minute), and the one line that a stage leaves behind."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

_LOG_EVERY = 60.0
_NAME_WIDTH = 9


class Tracker:
    """Counts what is done of a stage; a total of 0 is one that nobody knows.

    The rate is over the time since the first item, so that start-up does not dilute it.
    """

    def __init__(self, total: int, unit: str, done: int, show: Callable[["Tracker"], None]):
        self.total, self.unit, self.done, self.note = total, unit, done, ""
        self._show = show
        self._first_done, self._first_time = done, 0.0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add `count` items; `note` says what is going on."""
        self.done += count
        if count and not self._first_time:
            self._first_done, self._first_time = self.done, time.monotonic()
        self.note = note or self.note
        self._show(self)

    @property
    def rate(self) -> float:
        """Items per second; 0 while nothing is known."""
        passed = time.monotonic() - self._first_time if self._first_time else 0.0
        return (self.done - self._first_done) / passed if passed > 1 else 0.0

    def __str__(self) -> str:
        counted = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        parts = [f"{counted} {self.unit}".replace(",", " ")]
        if self.rate:
            parts.append(f"{self.rate:,.1f}/s" if self.rate < 10 else f"{self.rate:,.0f}/s")
        if self.rate and self.total:
            parts.append(f"ETA {clock(max(0, self.total - self.done) / self.rate)}")
        return "  ".join([*parts, self.note] if self.note else parts)


class Screen:
    """Where the lines of a run go. `stream` is a terminal or anything else that takes text; `log` gets them, too."""

    def __init__(self, stream: TextIO | None = None, log: TextIO | None = None):
        streams = (*((log,) if log else ()), stream or sys.stdout)  # what was seen is in the log
        *_, self._console = self._consoles = [
            Console(file=one, highlight=False, soft_wrap=True, emoji=False) for one in streams
        ]

    def line(self, name: str, text: str, seconds: float | None = None) -> None:
        """One finished line: a name in the first column, what there is to say, and how long it took."""
        took = f"  {clock(seconds)}" if seconds is not None else ""
        _line(self._consoles, name, text, took)

    def text(self, text: str) -> None:
        """Plain text, unchanged."""
        for console in self._consoles:
            console.print(text, markup=False)

    def table(self, table: RenderableType) -> None:
        """Something that rich draws."""
        for console in self._consoles:
            console.print()
            console.print(table)
            console.print()

    @contextmanager
    def track(self, stage: str, total: int, unit: str, done: int = 0) -> Iterator[Tracker]:
        """Show progress while the block runs: it calls `advance` on the tracker."""
        if not self._console.is_terminal:
            yield Tracker(total, unit, done, _line_a_minute(self._consoles, stage))
            return
        logged = _line_a_minute(self._consoles[:-1], stage)
        columns = (
            TextColumn(f"[bold]{stage:<{_NAME_WIDTH}}[/bold]"),
            SpinnerColumn(),
            BarColumn(24),
            TextColumn("{task.fields[words]}", markup=False),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=total or None, completed=done, words="starting")

            def show(tracker: Tracker) -> None:
                bar.update(task, completed=tracker.done, words=str(tracker))
                logged(tracker)

            yield Tracker(total, unit, done, show)


def _line(consoles: Sequence[Console], name: str, text: str, took: str = "") -> None:
    for console in consoles:
        console.print(Text.assemble((f"{name:<{_NAME_WIDTH}}", "bold"), " ", text, (took, "dim")))


def _line_a_minute(consoles: Sequence[Console], stage: str) -> Callable[[Tracker], None]:
    last = time.monotonic()

    def show(tracker: Tracker) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            _line(consoles, stage, str(tracker))

    return show


def clock(seconds: float) -> str:
    """A duration as people read it: 4 s, 2:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
