"""A study's runs, one after the other: what is done is not started again, what fails does not keep the others."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from masters.config.study import Study
from masters.data.storage import Storage
from masters.reporting.progress import Screen, clock
from masters.study.sharing import LAST, PlannedRun, Step, step_of

INTERRUPTED = 130
RECIPES = "recipes"
"""Folder of the study's that holds each run's recipe as one file."""

Start = Callable[[Path, Sequence[str]], int]
"""Runs a recipe with overrides, as `masters run` does, and gives the exit status."""


@dataclass(frozen=True)
class Ended:
    """How a run of the study ended: its result is there, or why not; `has` are the stages that are."""

    name: str
    words: str
    has: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return LAST in self.has


def run_study(study: Study, planned: Sequence[PlannedRun], start: Start, screen: Screen) -> list[Ended]:
    """Run what is not done.

    Raises:
        KeyboardInterrupt: where a run was interrupted; what is finished is kept.
    """
    ended: list[Ended] = []
    with ExitStack() as stack:
        local = Storage(study.folder).local_path
        recipes = Path(local or stack.enter_context(tempfile.TemporaryDirectory())) / RECIPES
        for place, one in enumerate(planned):
            earlier = [(other, end.has) for other, end in zip(planned, ended, strict=False)]
            ended.append(_run(step_of(one, earlier), recipes, start, screen, f"{place + 1}/{len(planned)}"))
    return ended


def _run(step: Step, recipes: Path, start: Start, screen: Screen, place: str) -> Ended:
    name = step.planned.run.name
    if LAST in step.has:
        screen.line("study", f"{place} {name}: done before")
        return Ended(name, "done", step.has)
    screen.line("study", f"{place} {in_words(step)}")
    recipe = recipes / f"{name}.yaml"
    _write(step.planned.run.recipe, recipe)
    began = time.monotonic()
    status = start(recipe, (f"from_run={step.lender}",) if step.lender else ())
    took = clock(time.monotonic() - began)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    has, words = tuple(step.planned.done()), "done"
    if LAST not in has:
        log = f"masters logs {step.planned.directory.uri}"
        ending = f"failed with status {status}" if status else "ended without a result of this recipe"
        words = f"{ending} after {took}; {log}"
    end = Ended(name, words, has)
    screen.line("study", f"{place} {name}: {f'done in {took}' if end.done else f'{words}. The others go on.'}")
    return end


def in_words(step: Step) -> str:
    """One line: which stages a run has, borrows and does."""
    if LAST in step.has:
        return f"{step.planned.run.name}: done"
    parts = [f"has {', '.join(step.has)}"] if step.has else []
    if step.lender:
        parts.append(f"borrows {', '.join(step.borrows)} of {step.lender}")
    parts.append(f"does {', '.join(step.does) or 'nothing itself'}")
    return f"{step.planned.run.name}: {'; '.join(parts)}"


def _write(recipe: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        YAML().dump(recipe, stream)
