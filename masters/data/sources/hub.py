"""Data sets of the Hugging Face hub, and folders laid out like them, through `datasets`: streamed, images as they are."""

import os
from collections.abc import Iterator
from typing import Any

from masters.config.prepare import HubSource
from masters.data.sources.records import START, Mark, Record


def resolve_revision(source: HubSource, token_env: str) -> str:
    """The commit that the source's revision names on the hub, or, off line, in its cache; empty for a local folder.

    Raises:
        ValueError: where there is no such data set or revision, or neither hub nor cache has it.
    """
    if not os.path.isdir(source.path):
        return _commit(source, source.revision, token_env) or os.path.basename(_cached(source, source.revision))
    if source.revision:
        raise ValueError(f"revision = {source.revision}: {source.path} is a folder, which has none. Remove revision.")
    return ""


def hub_parts(source: HubSource, revision: str, token_env: str) -> list[tuple[str, int]]:
    """The splits, as the data call them, and the number of shards of each. Raises ValueError as hub_records does."""
    return [(split, data.num_shards) for split, data in _load(source, revision, token_env).items()]


def hub_records(
    source: HubSource, revision: str, token_env: str, split: str, shard: int, start: Mark = START
) -> Iterator[Record]:
    """Records of one shard of a split; images are {"bytes", "path"}, not decoded. Places and marks count in the shard.

    Raises:
        ValueError: where there is no such configuration or split, or the data cannot be read, with the last record read.
    """
    loaded = _load(source, revision, token_env)
    if split not in loaded:
        raise ValueError(
            f"split = {split}: {source.path} has no such split; it has {', '.join(loaded)}. Name one of them."
        )
    data = loaded[split]
    if data.features:  # of data with unknown features nothing is decoded
        data = data.decode(False)
    number = start[1]
    try:
        for value in data.shard(num_shards=data.num_shards, index=shard).skip(number):
            fetched = _fetched(value, token_env)
            number += 1
            yield Record(fetched, f"record {number}", (0, number))
    except Exception as error:  # readers of many formats, each with its own errors
        raise ValueError(
            f"{source.path}, split {split}, shard {shard}: cannot be read behind record {number}: {_short(error)}. "
            "If the data are damaged, fetch them again; if the hub broke off, start again."
        ) from error


def _load(source: HubSource, revision: str, token_env: str) -> dict[str, Any]:
    """IterableDataset by split. Raises ValueError."""
    import datasets

    path, commit = source.path, revision or None
    if os.path.isdir(path):
        commit = None
    elif not _commit(source, commit, token_env):
        path, commit = _cached(source, commit), None
    try:
        loaded = datasets.load_dataset(path, source.config, revision=commit, token=_token(token_env), streaming=True)
    except Exception as error:  # its errors are of any kind
        known = _configurations(path, commit, token_env)
        if known and (source.config or "default") not in known:
            raise ValueError(
                f"config = {source.config}: {source.path} has the configurations {', '.join(known)}. Name one of them."
            ) from error
        raise ValueError(
            f"path = {source.path}: cannot be read as a data set: {_short(error)}. Try "
            f"datasets.load_dataset({path!r}, streaming=True), or name its files with type: files."
        ) from error
    return dict(loaded)


def _configurations(path: str, commit: str | None, token_env: str) -> list[str]:
    """Names of a data set's configurations; none where they cannot be told."""
    import datasets

    try:
        return datasets.get_dataset_config_names(path, revision=commit, token=_token(token_env))
    except Exception:  # noqa: BLE001  # what is wrong is told by who asked
        return []


def _commit(source: HubSource, revision: str | None, token_env: str) -> str | None:
    """The commit of a revision on the hub; None where the hub does not answer. Raises ValueError."""
    import huggingface_hub
    from huggingface_hub import errors

    if huggingface_hub.is_offline_mode():
        return None
    try:
        return huggingface_hub.HfApi(token=_token(token_env)).dataset_info(source.path, revision=revision).sha
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"revision = {revision}: {source.path} has no such commit, tag or branch. Name one."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ValueError(
            f"path = {source.path}: neither a folder nor a data set on the hub. Write owner/name; if it is not public, "
            f"put a token that may read it into {token_env}."
        ) from error
    except (OSError, errors.HTTPError):  # no connection, no answer in time, or an error of the hub's own
        return None


def _cached(source: HubSource, revision: str | None) -> str:
    """Folder of the whole data set in the hub's cache. Raises ValueError."""
    import huggingface_hub

    try:
        return huggingface_hub.snapshot_download(
            source.path, repo_type="dataset", revision=revision, local_files_only=True
        )
    except (OSError, ValueError) as error:
        name = f"{source.path}{f' at {revision}' if revision else ''}"
        raise ValueError(
            f"path = {source.path}: there is no such folder, the hub cannot be reached, and its cache does not hold {name} "
            f"whole. On line: hf download --repo-type dataset {source.path}."
        ) from error


def _fetched(value: Any, token_env: str) -> Any:
    """The record with the bytes of images that it only names on the hub, or inside an archive."""
    if isinstance(value, list):
        return [_fetched(item, token_env) for item in value]
    if not isinstance(value, dict):
        return value
    path = str(value.get("path"))
    named_only = value.keys() == {"bytes", "path"} and value["bytes"] is None
    if not named_only or not (path.startswith("hf://") or "::" in path):
        return {key: _fetched(item, token_env) for key, item in value.items()}
    import datasets
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb", download_config=datasets.DownloadConfig(token=_token(token_env))) as stream:
        return {"bytes": stream.read(), "path": path}


def _token(token_env: str) -> str | None:
    return os.environ.get(token_env) or None


def _short(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
