"""What every stage has in common: is it done, what does it depend on, and what happens to outputs of another recipe."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from masters.config.run import RunConfig
from masters.data.manifests import (
    Manifest,
    differences,
    in_words,
    manifest_name,
    new_manifest,
    read_manifest,
    write_manifest,
)
from masters.data.storage import Storage
from masters.reporting.progress import Screen
from masters.stages.borrow import borrow, drop_half, lender
from masters.stages.fetch import Need, fetch_models

Execute = Callable[[RunConfig, Storage, Screen], tuple[dict[str, Any], str]]


@dataclass(frozen=True)
class Stage:
    """A stage, as a piece of the pipeline.

    Attributes:
        name: as in the recipe.
        inputs: stages whose artifacts it reads.
        outputs: folders and files of the run directory that belong to it.
        parts: what its output depends on beside its inputs, from the recipe; computed without torch and Ray.
        execute: does the work, continuing where an earlier attempt stopped; gives counts and a line that sums them up.
        models: models whose weights it reads on its nodes.
        continuing: folders among the outputs that nobody needs when it is done.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parts: Callable[[RunConfig], dict[str, Any]]
    execute: Execute
    models: Callable[[RunConfig], Sequence[Need]] = lambda config: ()
    continuing: tuple[str, ...] = ()


def plan(stages: tuple[Stage, ...], config: RunConfig) -> dict[str, Manifest]:
    """The manifest that each stage would start with, from the recipe and its models alone. Stages in order."""
    planned: dict[str, Manifest] = {}
    for stage in stages:
        inputs = {name: planned[name].digest for name in stage.inputs}
        planned[stage.name] = new_manifest(stage.name, {**stage.parts(config), "inputs": inputs})
    return planned


def run_stage(
    stage: Stage, config: RunConfig, run: Storage, screen: Screen, planned: Mapping[str, Manifest]
) -> Manifest:
    """Skip, borrow, continue or redo a stage; say which, and why.

    Raises:
        ValueError: where an input is missing or belongs to another recipe, and whatever the stage finds wrong.
    """
    check_inputs(stage, run, planned)
    drop_half(stage.name, stage.outputs, run)
    target, existing = planned[stage.name], read_manifest(run, stage.name)
    if existing is not None and existing.digest != target.digest:
        _set_aside(stage, run, existing, target, screen)
        existing = _take_back(stage, run, target, screen)
    if existing is not None and existing.status == "done":
        screen.line(stage.name, f"done (digest {existing.digest})")
        return existing
    other = lender(config)
    if other is not None:
        borrowed = borrow(stage.name, stage.outputs, stage.continuing, run, target, other, screen)
        if borrowed is not None:
            return borrowed
    if existing is not None:
        screen.line(stage.name, "continuing where it stopped")
    before = existing.seconds if existing else 0.0
    write_manifest(run, replace(target, seconds=before))
    start = time.monotonic()
    try:
        fetch_models(stage.name, stage.models(config), config, screen)
        counts, summary = stage.execute(config, run, screen)
    except BaseException:
        write_manifest(run, replace(target, seconds=before + time.monotonic() - start))
        raise
    seconds = before + time.monotonic() - start
    manifest = replace(target, status="done", counts=counts, seconds=seconds)
    write_manifest(run, manifest)
    screen.line(stage.name, summary, seconds)
    return manifest


def check_inputs(stage: Stage, run: Storage, planned: Mapping[str, Manifest]) -> None:
    """Raise ValueError unless all that the stage reads is done and of the same recipe."""
    for name in stage.inputs:
        existing = read_manifest(run, name)
        if existing is None or existing.status != "done":
            raise ValueError(f"{stage.name} needs {name}, which is not done in {run.uri}. Run `masters run` first.")
        if existing.digest != planned[name].digest:
            why = in_words(differences(existing.parts, planned[name].parts))
            raise ValueError(
                f"{stage.name} needs {name}, but what is there is of another recipe: {why}. Run `masters run`."
            )


def _set_aside(stage: Stage, run: Storage, old: Manifest, new: Manifest, screen: Screen) -> None:
    """Move outputs of another recipe out of the way; they may have cost a lot, so nothing is deleted."""
    place = _superseded(old)
    for name in (*stage.outputs, manifest_name(stage.name)):
        run.move(name, f"{place}/{name}")
    why = in_words(differences(old.parts, new.parts))
    screen.line(stage.name, f"is of another recipe: {why}. It was moved to {place}.")


def _take_back(stage: Stage, run: Storage, target: Manifest, screen: Screen) -> Manifest | None:
    """Output that was set aside earlier and is now wanted again."""
    place = _superseded(target)
    if not run.exists(f"{place}/{manifest_name(stage.name)}"):
        return None
    for name in (*stage.outputs, manifest_name(stage.name)):
        run.move(f"{place}/{name}", name)
    screen.line(stage.name, f"was taken back from {place}")
    return read_manifest(run, stage.name)


def _superseded(manifest: Manifest) -> str:
    return f"superseded/{manifest.stage}-{manifest.digest}"
