"""Digests and manifests: what a stage's output depends on, whether it is there, and why it is not.

A stage's digest is the hash of its own meaning-bearing configuration, the digests of its inputs and the schema. Resources
and storage are not in it: more GPUs, or another learning rate for train, never generate a response again.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from masters.data.storage import Storage
from masters.data.tables import SCHEMA_VERSION


@dataclass(frozen=True)
class Manifest:
    """The record of one stage, at `manifests/<stage>.json`.

    Attributes:
        stage: its name.
        digest: hash of `parts`.
        parts: everything that the output depends on, flat: field path or input -> value or digest.
        status: `started` or `done`.
        counts: rows and other numbers that people ask for.
        seconds: wall time, summed over the attempts that it took.
        finished: time of the last change, ISO 8601.
        borrowed: address of the run that the outputs were borrowed from; empty where this run made them.
    """

    stage: str
    digest: str
    parts: dict[str, Any]
    status: Literal["started", "done"]
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""
    borrowed: str = ""


def digest_of(parts: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the canonical JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def new_manifest(stage: str, parts: Mapping[str, Any]) -> Manifest:
    """The manifest of a stage about to start."""
    flat = {"schema": SCHEMA_VERSION, **_flatten(parts)}
    return Manifest(stage, digest_of(flat), flat, "started")


def read_manifest(run: Storage, stage: str) -> Manifest | None:
    """The stage's manifest, or None where it never started."""
    name = manifest_name(stage)
    return Manifest(**run.read_json(name)) if run.exists(name) else None


def write_manifest(run: Storage, manifest: Manifest) -> None:
    """Record it, with the time."""
    stamped = {**asdict(manifest), "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    run.write_json(manifest_name(manifest.stage), stamped)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two sets of parts, in words: `generate.temperature was 1.0, is 0.8`."""
    missing = object()
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key, missing), new.get(key, missing)
        if before is missing:
            changes.append(f"{key} is new: {after}")
        elif after is missing:
            changes.append(f"{key} is gone (was {before})")
        elif before != after:
            changes.append(f"{key} was {before}, is {after}")
    return changes


def in_words(changes: list[str], most: int = 3) -> str:
    """The first few changes in one line."""
    more = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *more])


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def manifest_name(stage: str) -> str:
    """Where the manifest of a stage lies."""
    return f"manifests/{stage}.json"
