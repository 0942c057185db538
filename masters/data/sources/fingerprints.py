"""What the rows of a source depend on, without reading them: enters the digest of prepare."""

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from masters.config.prepare import CustomSource, FilesSource, HubSource, Source
from masters.data.sources import files, hub
from masters.data.storage import Storage

_WHOLE, _ALL_WHOLE = 64 << 20, 1 << 30
_SAMPLE, _SAMPLES = 1 << 16, 16
_THREADS = 16


def fingerprint(source: Source, token_env: str) -> dict[str, Any]:
    """Its configuration and its files; where a local path lies does not matter.

    Local files up to 64 MiB count by their content, as long as all of a source are 1 GiB at most; others, and those in
    object stores, by size and 16 evenly spaced samples of 64 KiB. Images that rows name are not looked at, but another
    `image_root` is another source. Of a data set on the hub the commit counts; of a reader of one's own, its module, and
    files that options name.

    Raises:
        ValueError: where there are no such files, or the hub does not know the data set.
    """
    facts: dict[str, Any] = source.model_dump(mode="json", exclude_defaults=True)
    if isinstance(source, FilesSource):
        root, names = files.list_files(source.path, source.format)
        facts.pop("path")
        facts["files"] = _of_files(root, names)
    elif isinstance(source, HubSource):
        facts["commit"] = hub.resolve_revision(source, token_env)
        if not facts["commit"]:
            facts.pop("path")
            root = Storage(source.path)
            facts["files"] = _of_files(root, root.names())
    elif isinstance(source, CustomSource):
        facts["code"] = _code_identity(source.reader.partition(":")[0])
        facts["files"] = {
            name: _identity(Storage(os.path.dirname(os.path.abspath(value))), os.path.basename(value))
            for name, value in source.options.items()
            if isinstance(value, str) and os.path.isfile(value)
        }
    return facts


def _of_files(root: Storage, names: list[str]) -> list[str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        whole = root.local_path is not None and sum(threads.map(root.size, names)) <= _ALL_WHOLE
        identities = threads.map(lambda name: _identity(root, name, whole=whole), names)
        return [f"{name} {identity}" for name, identity in zip(names, identities, strict=True)]


def _identity(root: Storage, name: str, *, whole: bool = True) -> str:
    digest = hashlib.sha256()
    with root.open(name) as file:
        size = file.size()
        digest.update(f"{size}".encode())
        for offset, length in _looked_at(size, whole=whole):
            file.seek(offset)
            digest.update(file.read(length))
    return digest.hexdigest()[:16]


def _looked_at(size: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is hashed."""
    if size <= (_WHOLE if whole else _SAMPLE * _SAMPLES):
        yield from ((offset, 1 << 20) for offset in range(0, size, 1 << 20))
    else:
        yield from (((size - _SAMPLE) * i // (_SAMPLES - 1), _SAMPLE) for i in range(_SAMPLES))


def _code_identity(module: str) -> str:
    """Of the module's file; empty where it is not found here: reading the source will say so."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    if not spec or not spec.origin or not os.path.isfile(spec.origin):
        return ""
    file = Path(spec.origin)
    return _identity(Storage(str(file.parent)), file.name)
