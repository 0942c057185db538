"""What is installed, by the values of a Helm release or of its values file; and where a recipe does not agree with it."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masters import __version__
from masters.config.load import PATHS
from masters.config.placement import CHART, groups_of, placement_problems, read_values
from masters.config.portable import storage_problems
from masters.config.problems import Problem, RecipeError
from masters.config.run import RunConfig
from masters.planning.volumes import cache_kind

_SECONDS = 60
_TAG = re.compile(r":v?(\d+\.\d+\.\d+)-(cpu|gpu)$")
"""Of an image, as docker/Dockerfile's targets are called."""
_KINDS = {"s3": "s3", "gs": "gcs"}
_ACCESS = {
    "s3": {"AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"},
    "gs": {"GOOGLE_APPLICATION_CREDENTIALS"},
}
_OF_A_POD = {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "ephemeral"}


@dataclass(frozen=True)
class Installed:
    """A release, or one that is to be.

    Attributes:
        values: of the chart, complete.
        shown: names them in messages.
        files: that they are from; empty for a release, which was asked itself.
    """

    values: Mapping[str, Any]
    shown: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A volume of every Ray pod: where it is, the field that says so, and what is the matter with it, if anything."""

    path: str
    field: str
    lack: str = ""

    def has(self, path: str) -> bool:
        """Whether a path lies in it."""
        return path == self.path or path.startswith(self.path.rstrip("/") + "/")


def find(release: str, namespace: str, files: Sequence[Path]) -> Installed:
    """Values files, laid over the chart's own, or else what `helm get values` says of the release.

    Raises:
        ValueError: where there is neither, so that all would be a guess; and where they cannot be read.
    """
    if files:
        return Installed(read_values(files), ", ".join(map(str, files)), tuple(files))
    if not release:
        raise ValueError(
            "which release? Its images, volumes and groups are not guessed. Name it, --release NAME -n NAMESPACE, or its values "
            "file: --values values.yaml."
        )
    return Installed(_values_of(release, namespace), f"release {release}")


@contextmanager
def agreed(
    config: RunConfig, recipe: str, release: str, namespace: str, files: Sequence[Path], stage: str | None = None
) -> Iterator[list[Path]]:
    """For the block: values files that `helm template` makes the release's cluster from, if the recipe agrees with them.

    Args:
        config: the recipe.
        recipe: names it in errors.
        release: of Helm.
        namespace: of the release; empty for that of kubectl's context.
        files: of the chart's values; where there are none, the release is asked.
        stage: where it is not the whole pipeline; the others need no place.

    Raises:
        RecipeError: with all in which it does not.
        ValueError: where no release is named: accounts, claims and Secrets are called after it.
    """
    if files and not release:
        raise ValueError(
            "--manifest: which release? Its accounts, claims and Secrets are called after it. Name it: --release NAME."
        )
    found = find(release, namespace, files)
    told = list(problems(config, found, stage))
    if told:
        raise RecipeError(recipe, told)
    if found.files:
        yield list(found.files)
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="masters-values-", encoding="utf-8") as file:
        json.dump(_whole(found.values), file)
        file.flush()
        yield [Path(file.name)]


def problems(config: RunConfig, installed: Installed, stage: str | None = None) -> Iterator[Problem]:
    """What of the recipe does not go with the release: places of one stage or all, storage, images.

    Raises:
        RecipeError: where the values themselves are broken.
    """
    values = installed.values
    yield from placement_problems(config, groups_of(values, installed.shown), stage)
    yield from storage_problems(config.model_dump(mode="json"))
    for field, address in _addresses(config).items():
        yield from _address_problems(field, address, values)
    yield from _image_problems(values, gpus=_wants_gpus(config))


def lines_of_paths(config: RunConfig, installed: Installed) -> Iterator[str]:
    """Models and data that are on no volume of the release: a line for each, since the image may have them."""
    mounts = _mounts(installed.values)
    for field, path in _paths(config.model_dump(mode="json")):
        if path.startswith("/") and not any(mount.has(path) for mount in mounts):
            yield f"{field} = {path}: is on no volume of {installed.shown}; it must be in the image"


def _paths(data: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            place = f"{where}.{key}" if where else str(key)
            yield from [(place, value)] if key in PATHS and isinstance(value, str) else _paths(value, place)
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from _paths(item, f"{where}[{index}]")


def _values_of(release: str, namespace: str) -> dict[str, Any]:
    """All values of a release, the chart's own among them, as Helm has them. Raises ValueError."""
    command = ["helm", "get", "values", release, "--all", "--output", "json"]
    command += ["--namespace", namespace] if namespace else []
    shown, remedy = f"`{' '.join(command)}`", "Give the values that it was installed with: --values values.yaml."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"helm is not on PATH, and release {release} is asked by {shown}. Install it. {remedy}"
        ) from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"{shown} did not answer in {_SECONDS} s. {remedy}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["failed"])[-1].rstrip(".")
        raise ValueError(f"{shown}: {last}. {remedy}")
    try:
        values = json.loads(done.stdout)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict) or "workerGroups" not in values:
        raise ValueError(f"{shown}: gave no values of this chart. Is {release} a release of it? {remedy}")
    return values


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as a file over the chart's own: a group that was taken away is null, or it would come back."""
    own = read_values(()) if (CHART / "values.yaml").is_file() else {}
    gone = {name: None for name in own.get("workerGroups", {}) if name not in values["workerGroups"]}
    return {**values, "workerGroups": {**values["workerGroups"], **gone}}


def _addresses(config: RunConfig) -> dict[str, str]:
    """Folders that all pods write or read, by field."""
    found = {"storage": config.storage, "hub_mirror": config.hub_mirror, "score.cache": config.score.cache}
    if config.from_run and "/" in config.from_run:  # else the name of a run beside this one
        found["from_run"] = config.from_run
    return {field: address for field, address in found.items() if address}


def _address_problems(field: str, address: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    kind, mounts = _section(values, "storage").get("kind"), _mounts(values)
    good = next((mount.path for mount in mounts if not mount.lack), "")
    scheme, slashes, _ = address.partition("://")
    if slashes and scheme in _KINDS:
        if kind != _KINDS[scheme] and not _has_access(values, scheme):
            rule = (
                f"is in a bucket, and storage.kind of the release is {kind}: its pods get no keys, region or endpoint"
            )
            instead = f", or use {good}" if good else ""
            yield Problem(field, address, rule, f"Set storage.kind: {_KINDS[scheme]}{instead}.")
        return
    path = address.removeprefix("file://")
    if not path.startswith("/"):  # `storage_problems` says it
        return
    mount = max((one for one in mounts if one.has(path)), key=lambda one: len(one.path), default=None)
    if mount is not None and not mount.lack:
        return
    bucket = next((f"{scheme}://BUCKET/FOLDER" for scheme, name in _KINDS.items() if name == kind), "")
    remedy = f"Use {bucket or good or 'a bucket, or mount a volume by extraVolumes'}."
    if mount is not None:
        yield Problem(field, address, f"{mount.field} {mount.lack}", remedy)
        return
    there = ", ".join(one.path for one in mounts if not one.lack) or "none"
    rule = (
        f"is a folder of each pod and ends with it: storage.kind of the release is {kind}; volumes of all pods: {there}"
    )
    yield Problem(field, address, rule, remedy)


def _mounts(values: Mapping[str, Any]) -> list[Mount]:
    """Volumes of every Ray pod, that of the runs first."""
    found, storage, cache = [], _section(values, "storage"), _section(values, "modelCache")
    claim = _section(storage, "pvc")
    if storage.get("kind") == "pvc" and claim.get("mountPath"):
        found.append(Mount(claim["mountPath"], "storage.pvc.mountPath"))
    volumes = {one.get("name"): one for one in values.get("extraVolumes") or () if isinstance(one, Mapping)}
    for index, mount in enumerate(values.get("extraVolumeMounts") or ()):
        field, volume = f"extraVolumeMounts[{index}]", volumes.get(mount.get("name"), {})
        lack = ""
        if _OF_A_POD & volume.keys():
            lack = "is a volume of each pod, which ends with it"
        elif "hostPath" in volume:
            lack = "is a folder of each node"
        elif mount.get("readOnly"):
            lack = "is mounted read-only"
        found.append(Mount(str(mount.get("mountPath", "")), field, lack))
    if cache.get("mountPath"):
        lack = {"pvc": "", "hostPath": "is a folder of each node"}.get(cache_kind(values), "ends with its pod")
        found.append(Mount(cache["mountPath"], "modelCache.mountPath", lack))
    return found


def _has_access(values: Mapping[str, Any], scheme: str) -> bool:
    """Whether the pods may reach a bucket by other means: a cloud identity of their account, or the environment."""
    account = _section(_section(values, "serviceAccounts"), "worker")
    names = {*_section(values, "env"), *_section(values, "secretEnv")}
    return bool(account.get("annotations") or account.get("name") or names & _ACCESS[scheme])


def _wants_gpus(config: RunConfig) -> bool:
    models = (config.student, *config.curriculum)
    return config.resources.train.gpus > 0 or any(model.gpus_per_engine for model in models)


def _image_problems(values: Mapping[str, Any], *, gpus: bool) -> Iterator[Problem]:
    """Images of another version, by their tag where it says one; with `gpus`, groups that have some and no CUDA."""
    images = _section(values, "images")
    used = {"images.cpu": str(images.get("cpu", "")), "images.gpu": str(images.get("gpu", ""))}
    with_gpus: dict[str, str] = {}
    for name, group in _section(values, "workerGroups").items():
        if isinstance(group, Mapping) and group.get("enabled"):
            field = f"workerGroups.{name}.image" if group.get("image") else ""
            if field:
                used[field] = str(group["image"])
            if gpus and group.get("gpusPerPod"):
                with_gpus.setdefault(field or "images.gpu", name)
    for field, image in used.items():
        tag = _TAG.search(image)
        if tag and tag[1] != __version__:
            rule = f"is Masters {tag[1]}, and this is {__version__}: fields and digests of the two may differ"
            yield Problem(field, image, rule, f"Build and name {__version__}, or use Masters {tag[1]} here.")
        if field in with_gpus and (image.endswith("-cpu") or image == used["images.cpu"]):
            rule = f'is an image without CUDA, and group "{with_gpus[field]}" has GPUs'
            yield Problem(field, image, rule, "Name an image of the target `gpu` of docker/Dockerfile.")


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = values.get(key)
    return section if isinstance(section, Mapping) else {}
