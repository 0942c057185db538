"""Models of the hub on this machine: one download per cache, whoever asks; from the run's mirror where there is one.

The hub's client resumes by file and inside a file while its process lives. What it lacks is here: several processes of one
node ask once, a hub that breaks off is asked again, and nodes may take a model from a mirror, without the hub.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from masters.data.storage import Storage

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
_PAUSES = (2.0, 10.0, 60.0, 240.0)
_AT_ONCE = 8
_UNFINISHED = re.compile(r".*\.incomplete|\..+\.[0-9a-f]{32}")
_ABANDONED_SECONDS = 3600.0


def commit_of(name: str, revision: str, token: str | None) -> str:
    """The commit that a revision of a model names now; the hub is asked unless it is one, and what it said last holds offline.

    Args:
        name: owner/model.
        revision: a commit, branch or tag; empty for the default branch.
        token: of the hub.

    Raises:
        OSError, ValueError, RevisionResolutionError: where the hub does not say.
    """
    from huggingface_hub import HfApi

    if _COMMIT.fullmatch(revision):
        return revision
    return str(HfApi(token=token).resolve_revision(name, revision=revision or None).resolved)


def cached(name: str, commit: str, *, weights: bool = True) -> Path | None:
    """The folder of a model in this machine's cache if all of it is there; asks nobody.

    Args:
        name: owner/model.
        commit: 40 hexadecimal digits.
        weights: False where tokenizer and configuration are enough.
    """
    folder = _cache(name) / "snapshots" / commit
    wanted = _wanted(name, commit, weights)
    return folder if wanted and all((folder / file).exists() for file in wanted) else None


def fetch(name: str, commit: str, token: str | None, *, weights: bool = True, mirror: str | None = None) -> Path:
    """The folder of a model in this machine's cache; fetched if it is not there, by one process while others wait.

    The lock lies in the cache: processes of a node share it, and so do nodes that share a volume. Nobody waits in vain: it
    goes with the process that holds it.

    Args:
        name: owner/model.
        commit: 40 hexadecimal digits.
        token: of the hub.
        weights: False leaves the weights where they are.
        mirror: folder or address that `fill` may have filled.

    Raises:
        OSError, ValueError, httpx2.HTTPError: where the hub does not give it, after several tries if that may help.
    """
    found = cached(name, commit, weights=weights)
    if found is not None:
        return found
    with _alone(name, commit):
        found = cached(name, commit, weights=weights)
        if found is not None:
            return found
        _sweep(name)
        if mirror is not None and _take(Storage(mirror), name, commit, weights):
            found = cached(name, commit, weights=weights)
            assert found is not None
            return found
        return _download(name, commit, token, weights)


def fill(mirror: str, name: str, commit: str, token: str | None) -> int:
    """Store a model in the mirror if it is not there whole; bytes that were written. Files that are there are not written again.

    The record that makes it whole is written last. Raises as `fetch` does, and OSError where storage refuses.
    """
    store = Storage(mirror)
    if mirrored(store, name, commit):
        return 0
    folder = fetch(name, commit, token)
    if not _listing(name, commit).exists():  # an older client's cache: the hub is asked what belongs to the model
        folder = _download(name, commit, token, weights=True)
    place, source = _place(name, commit), Storage(str(folder))

    def put(file: str, size: int) -> int:
        target = f"{place}/{file}"
        if store.exists(target) and store.size(target) == size:
            return 0
        store.take(target, source, file)
        return size

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        written = sum(pool.map(lambda item: put(*item), _wanted(name, commit, weights=True).items()))
    store.write(f"{place}.json", _listing(name, commit).read_bytes())
    return written


def mirrored(store: Storage, name: str, commit: str) -> bool:
    """Whether the mirror holds the whole model."""
    return store.exists(f"{_place(name, commit)}.json")


def progress(name: str, commit: str) -> tuple[int, int]:
    """Bytes of a model that are in this machine's cache, and all of its bytes; 0 and 0 until its files are known."""
    files = _wanted(name, commit, weights=True)
    snapshot = _cache(name) / "snapshots" / commit
    done = sum(size for file, size in files.items() if (snapshot / file).exists())
    partial = (_size(file) for file in _unfinished(name))
    return min(done + sum(partial), sum(files.values())), sum(files.values())


def _download(name: str, commit: str, token: str | None, weights: bool) -> Path:
    """From the hub. What a broken connection left is continued, by file."""
    import httpx2
    from huggingface_hub import snapshot_download

    patterns = None if weights else list(_WEIGHTS)
    for pause in (*_PAUSES, None):
        try:
            return Path(snapshot_download(name, revision=commit, token=token, ignore_patterns=patterns))
        except (OSError, ValueError, httpx2.HTTPError) as error:
            if pause is None or not _may_pass(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"{name}: the hub broke off ({reason}); asked again in {pause:.0f} s", file=sys.stderr, flush=True)
            time.sleep(pause)
    raise AssertionError


def _may_pass(error: BaseException) -> bool:
    """Whether to ask again: the hub is away or busy, not of another opinion."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            return cause.response.status_code in (408, 429) or cause.response.status_code >= 500
        if isinstance(cause, httpx2.TransportError):
            return True
        cause = cause.__cause__
    return False


def _take(mirror: Storage, name: str, commit: str, weights: bool) -> bool:
    """From the mirror, if it holds the whole model. The list of files comes first: what lacks one of them is not whole."""
    place, cache = _place(name, commit), Storage(str(_cache(name)))
    if not mirrored(mirror, name, commit):
        return False
    cache.write(f"trees/{commit}.json", mirror.read(f"{place}.json"))
    folder = _cache(name) / "snapshots" / commit
    missing = [file for file in _wanted(name, commit, weights) if not (folder / file).exists()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda file: cache.take(f"snapshots/{commit}/{file}", mirror, f"{place}/{file}"), missing))
    return True


def _wanted(name: str, commit: str, weights: bool) -> dict[str, int]:
    """Bytes of each file that belongs to the model; empty while the list of its files was never fetched."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    try:
        files = {file.path: file.size for file in get_cached_repo_tree(name, revision=commit)}
    except CachedRepoTreeNotFoundError:
        return {}
    names = filter_repo_objects(files, ignore_patterns=None if weights else list(_WEIGHTS))
    return {file: files[file] for file in names}


def _cache(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    root = Path(constants.HF_HUB_CACHE).expanduser().resolve()
    return root / repo_folder_name(repo_id=name, repo_type="model")


def _listing(name: str, commit: str) -> Path:
    return _cache(name) / "trees" / f"{commit}.json"


def _place(name: str, commit: str) -> str:
    return f"{name}/{commit}"


@contextmanager
def _alone(name: str, commit: str) -> Iterator[None]:
    """Among all who use this cache. Waits as long as it takes."""
    from huggingface_hub.utils import WeakFileLock

    cache = _cache(name)
    folder = cache.parent / ".locks" / cache.name
    folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{commit}.lock"):
        yield


def _unfinished(name: str) -> Iterator[Path]:
    for folder in ("blobs", "snapshots"):
        for place, _, files in os.walk(_cache(name) / folder):
            yield from (Path(place, file) for file in files if _UNFINISHED.fullmatch(file))


def _sweep(name: str) -> None:
    """Delete what processes that were killed have left: each try of a 72B model would fill the disk a little more."""
    for file in _unfinished(name):
        try:
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()
        except FileNotFoundError:
            continue


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
