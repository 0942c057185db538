"""Which stages of a study's runs are one and the same, from their digests, before anything runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from masters.config.study import Study, StudyRun
from masters.data.manifests import read_manifest
from masters.data.storage import Storage
from masters.pipeline import NAMES, planned_manifests, run_directory

SHARED = NAMES[:-1]
"""Stages that can be shared; the page about a run is its own."""
LAST = SHARED[-1]
"""The one that makes a run a result."""


@dataclass(frozen=True)
class PlannedRun:
    """A run with the digest of each stage that it will have."""

    run: StudyRun
    digests: dict[str, str]

    @property
    def directory(self) -> Storage:
        """Its run directory."""
        return run_directory(self.run.config)

    def done(self) -> list[str]:
        """Stages that are there, done, and of this recipe."""
        directory, found = self.directory, []
        for name in SHARED:
            manifest = read_manifest(directory, name)
            if manifest is not None and manifest.status == "done" and manifest.digest == self.digests[name]:
                found.append(name)
        return found


@dataclass(frozen=True)
class Step:
    """What a run will do: stages that it has, those that it borrows and from which run, and those that are its own work."""

    planned: PlannedRun
    has: tuple[str, ...]
    borrows: tuple[str, ...]
    lender: str | None
    does: tuple[str, ...]


def plan_study(study: Study) -> list[PlannedRun]:
    """Every run with its digests, in order. Raises ValueError where a model or a file of data is not there."""
    return [PlannedRun(run, _digests(run)) for run in study.runs]


def _digests(run: StudyRun) -> dict[str, str]:
    try:
        return {name: manifest.digest for name, manifest in planned_manifests(run.config).items()}
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error


def steps_of(planned: Sequence[PlannedRun]) -> Iterator[Step]:
    """What each run will do if all before it end well."""
    for place, one in enumerate(planned):
        yield step_of(one, [(earlier, SHARED) for earlier in planned[:place]])


def step_of(one: PlannedRun, earlier: Sequence[tuple[PlannedRun, Sequence[str]]]) -> Step:
    """Borrow from one run: the first of those with which most stages that are wanted are shared.

    Args:
        one: the run.
        earlier: runs, and the stages that are or will be done there.
    """
    has = one.done()
    missing = [] if LAST in has else [name for name in SHARED if name not in has]

    def lent(other: PlannedRun, stages: Sequence[str]) -> list[str]:
        return [name for name in missing if name in stages and other.digests[name] == one.digests[name]]

    offers = [(other.run.name, lent(other, stages)) for other, stages in earlier]
    lender, borrows = max(offers, key=lambda offer: len(offer[1]), default=(None, []))
    does = tuple(name for name in missing if name not in borrows)
    return Step(one, tuple(has), tuple(borrows), lender if borrows else None, does)
