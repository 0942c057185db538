"""Volumes and disks of the chart's values, as far as these say how large they are."""

import re
from collections.abc import Mapping
from typing import Any

from masters.planning.disk import CACHE, SCRATCH, VOLUME

_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {f"{unit}i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTP", 1)}
_GIB = 2**30
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([A-Za-z]*)")


def sizes_of_volumes(values: Mapping[str, Any]) -> dict[str, float]:
    """Bytes by field of the values. A claim that exists, a bucket and a folder of a node say nothing.

    Args:
        values: of the chart, complete.

    Raises:
        ValueError: for a size that is none.
    """
    found: dict[str, float] = {}
    storage, cache = _at(values, "storage"), _at(values, "modelCache")
    claim, kind = _at(storage, "pvc"), cache_kind(values)
    if storage.get("kind") == "pvc" and not claim.get("existingClaim") and claim.get("size"):
        found[VOLUME] = quantity(claim["size"], VOLUME)
    if kind in ("pvc", "emptyDir") and not cache.get("existingClaim") and cache.get("sizeGi") is not None:
        found[CACHE] = quantity(cache["sizeGi"], CACHE, _GIB)
    for name, group in _at(values, "workerGroups").items():
        if not isinstance(group, Mapping) or not group.get("enabled"):
            continue
        field = SCRATCH.format(name)
        asked = _at(group, "requests").get("ephemeral-storage")
        scratch = quantity(group.get("scratchGi", 20), field, _GIB)
        if asked:  # instead of all that the chart computes
            spilled = quantity(group.get("shmGi", 0), f"workerGroups.{name}.shmGi", _GIB)
            scratch = quantity(asked, f"workerGroups.{name}.requests.ephemeral-storage") - spilled
            scratch -= found.get(CACHE, 0.0) if kind == "emptyDir" else 0.0
        found[field] = max(0.0, scratch)
    return found


def cache_kind(values: Mapping[str, Any]) -> str:
    """What holds the models: pvc, hostPath or emptyDir; `auto` resolved as the chart does it (masters.cache.kind)."""
    cache, storage = _at(values, "modelCache"), _at(values, "storage")
    kind = str(cache.get("kind") or "auto")
    if kind != "auto":
        return kind
    groups = [group for group in _at(values, "workerGroups").values() if isinstance(group, Mapping)]
    gpus = any(group.get("enabled") and group.get("gpusPerPod") for group in groups)
    ours = storage.get("kind") == "pvc" and not _at(storage, "pvc").get("existingClaim")
    return "pvc" if cache.get("existingClaim") or cache.get("storageClassName") or (ours and gpus) else "emptyDir"


def quantity(size: object, field: str, unit: float = 1.0) -> float:
    """Bytes of a quantity as Kubernetes writes it; a bare number has `unit` bytes. Raises ValueError, naming the field."""
    match = _QUANTITY.fullmatch(str(size))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{field} = {size}: is no size of a volume. Write 500Gi or 1Ti.")
    return float(match[1]) * (_UNITS[match[2]] if match[2] else unit)


def _at(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A section; empty where it is none."""
    section = values.get(key)
    return section if isinstance(section, Mapping) else {}
