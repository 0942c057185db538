"""A finished stage of another run, taken over where it is what this run would compute: whole, or not at all.

Files of one disk are linked, a store copies its own; either way this run's directory stands alone afterwards. A mark is written
first and the manifest last: what a killed driver leaves between them is never taken for output.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from masters.config.run import RunConfig
from masters.data.manifests import (
    Manifest,
    differences,
    in_words,
    manifest_name,
    read_manifest,
    write_manifest,
)
from masters.data.storage import Storage
from masters.reporting.progress import Screen

_AT_ONCE = 16


def lender(config: RunConfig) -> Storage | None:
    """The run directory that `from_run` names: a run of the same storage, or a path or address."""
    if config.from_run is None:
        return None
    return Storage(config.from_run) if "/" in config.from_run else Storage(config.storage).folder(config.from_run)


def drop_half(name: str, outputs: Sequence[str], run: Storage) -> None:
    """Delete what an interrupted `borrow` has left of a stage."""
    mark = _mark(name)
    if not run.exists(mark):
        return
    existing = read_manifest(run, name)
    if existing is None or existing.status != "done":
        for output in (*outputs, manifest_name(name)):
            run.delete(output)
    run.delete(mark)


def borrow(
    name: str,
    outputs: Sequence[str],
    left_out: Sequence[str],
    run: Storage,
    target: Manifest,
    source: Storage,
    screen: Screen,
) -> Manifest | None:
    """Take a stage's outputs from another run, and say so; None, with the reason said, where they are not what is wanted.

    Args:
        name: of the stage.
        outputs: its folders and files, which are replaced.
        left_out: folders among them that only a stage that goes on needs.
        run: where they are wanted.
        target: the manifest that the stage would start with.
        source: the other run.
    """
    theirs = read_manifest(source, name)
    reason = _unfit(theirs, target)
    if theirs is None or reason:
        screen.line(name, f"is not borrowed from {source.uri}: {reason}")
        return None
    began = time.monotonic()
    run.write_json(_mark(name), {"from": source.uri})
    for output in (manifest_name(name), *outputs):
        run.delete(output)
    files = _files(source, outputs, left_out)
    with (
        screen.track(name, len(files), f"files borrowed from {source.uri}") as tracker,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        for _ in pool.map(lambda file: run.take(file, source, file), files):
            tracker.advance()
    if read_manifest(source, name) != theirs:
        drop_half(name, outputs, run)
        screen.line(name, f"is not borrowed from {source.uri}: it changed meanwhile")
        return None
    manifest = replace(theirs, borrowed=source.uri)
    write_manifest(run, manifest)
    run.delete(_mark(name))
    words = f"borrowed from {source.uri} (digest {target.digest}): {len(files):,} files, {sum(files.values()) / 1e6:,.1f} MB"
    screen.line(name, words, time.monotonic() - began)
    return manifest


def _unfit(theirs: Manifest | None, target: Manifest) -> str:
    """Why another run's stage is not what is wanted; empty where it is."""
    if theirs is None:
        return "it has no such stage"
    if theirs.digest != target.digest:
        return in_words(differences(theirs.parts, target.parts))
    return "" if theirs.status == "done" else "it is not done there"


def _files(source: Storage, outputs: Sequence[str], left_out: Sequence[str]) -> dict[str, int]:
    """Bytes of each file that is borrowed, by name."""
    files: dict[str, int] = {}
    for output in outputs:
        files |= {output: source.size(output)} if source.exists(output) else source.sizes(output)
    return {name: size for name, size in files.items() if not any(name.startswith(f"{folder}/") for folder in left_out)}


def _mark(name: str) -> str:
    return f"borrowing/{name}.json"
