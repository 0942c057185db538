"""A run as a RayJob of Kubernetes: for `kubectl apply`, without a laptop that stays open.

A RayJob that selects the installed cluster could not be retried, so it brings a cluster of its own, made like the chart's: the
RayCluster that `helm template` renders is wrapped. A retry is a new cluster; the run continues from storage. The service
accounts, volumes and secrets that the pods name are those of the installed release, so that must be in the same namespace.
"""

import copy
import hashlib
import io
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from masters.config.placement import CHART

_LONGEST_NAME = 47  # KubeRay derives names of pods and services from a RayJob's
_MOST_BYTES = 200_000  # annotations of a pod hold 256 KiB
_PLACE, _VOLUME = "/etc/masters/recipe", "masters-recipe"
_RECIPE = "masters/recipe"
"""Annotation of the head. Not a ConfigMap: that would have no owner and stay behind, whoever deletes the RayJob."""
_KUEUE = "kueue.x-k8s.io/"
QUEUE = f"{_KUEUE}queue-name"
PART_OF = ("app.kubernetes.io/part-of", "masters")
RUN, DIRECTORY = "masters/run", "masters/run-directory"
"""Annotations of a RayJob: the name of a run may end as no label does."""
_NOT_OF_A_JOB = ("gcsFaultToleranceOptions", "suspend", "managedBy", "upgradeStrategy")
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_NOT_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True)
class Limits:
    """How long and how often.

    Attributes:
        retries: new clusters after a failure; each continues from storage.
        ready_seconds: of an attempt, until its driver runs; a cluster that never becomes ready is given up. Ready are the head
            and minReplicas of each group: with 0 it says nothing about workers.
        total_seconds: of an attempt, its driver's time included: KubeRay counts from each start anew, so a RayJob may take
            `retries + 1` times as long.
        kept_seconds: that a finished cluster stays, for its logs; worker groups are idle then, and scale down by themselves.
    """

    retries: int = 3
    ready_seconds: int = 45 * 60
    total_seconds: int = 14 * 24 * 3600
    kept_seconds: int = 60


def manifests(
    cluster: Mapping[str, Any],
    recipe: str,
    run: str,
    command: str,
    limits: Limits,
    stage: str | None = None,
    namespace: str = "",
    directory: str = "",
) -> list[dict[str, Any]]:
    """The objects to apply: the RayJob alone, which holds the recipe.

    Args:
        cluster: the RayCluster that the chart renders.
        recipe: text of the recipe.
        run: name of the run; the file is called after it.
        command: what the driver runs; it finds the recipe at `recipe_place(run)`.
        limits: deadlines and retries.
        stage: where it is not the whole pipeline.
        directory: of the run, where its logs are found when the cluster is gone.
        namespace: of the release; empty takes the cluster's, which the chart does not name, else `kubectl apply` decides.

    Raises:
        ValueError: where Kubernetes or KubeRay would refuse the objects.
    """
    if len(recipe.encode()) > _MOST_BYTES:
        raise ValueError(
            f"the recipe has {len(recipe.encode()) / 1e3:,.0f} kB; a RayJob holds {_MOST_BYTES / 1e3:g} kB. Take comments out."
        )
    name = job_name(run, stage)
    shared = {**dict([PART_OF]), "app.kubernetes.io/component": stage or "pipeline"}
    namespace = namespace or cluster["metadata"].get("namespace", "")
    space = {"namespace": namespace} if namespace else {}
    kueue = {
        kind: {key: value for key, value in cluster["metadata"].get(kind, {}).items() if key.startswith(_KUEUE)}
        for kind in ("labels", "annotations")
    }
    known = {RUN: run, **({DIRECTORY: directory} if directory else {})}
    metadata = {
        "name": name,
        **space,
        "labels": shared | kueue["labels"],
        "annotations": known | kueue["annotations"],
    }
    spec = {
        "entrypoint": command,
        "submissionMode": "HTTPMode",  # no submitter pod, whose eviction would end the job
        "backoffLimit": limits.retries,
        "preRunningDeadlineSeconds": limits.ready_seconds,
        "activeDeadlineSeconds": limits.total_seconds,
        # Not deletionRules: they know no job that was stopped, whose cluster would stay, and KubeRay suspends none with them.
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": limits.kept_seconds,
        **({} if QUEUE in kueue["labels"] else {"suspend": False}),  # said, so that applying it again continues
        "rayClusterSpec": cluster_of_a_job(cluster["spec"], run, recipe),
    }
    return [{"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}]


def recipe_place(run: str) -> str:
    """Where the head finds the recipe."""
    return f"{_PLACE}/{run}.yaml"


def job_name(run: str, stage: str | None = None) -> str:
    """A DNS label of at most 47 characters; a name that had to be changed ends with a digest, so that two never meet."""
    wanted = f"{run}-{stage}" if stage else run
    name = re.sub(r"[^a-z0-9-]+", "-", wanted.lower()).strip("-")
    name = name if name[:1].isalpha() else f"run-{name}"
    if name == wanted and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{name[: _LONGEST_NAME - 7].rstrip('-')}-{digest}"


def cluster_of_a_job(spec: Mapping[str, Any], run: str, recipe: str) -> dict[str, Any]:
    """The chart's cluster without what only a lasting one has, and with the recipe on its head, read-only."""
    if spec.get("authOptions", {}).get("enableK8sTokenAuth"):
        raise ValueError("authOptions.enableK8sTokenAuth: KubeRay refuses it for a RayJob. Use the token of a Secret.")
    own = copy.deepcopy({key: value for key, value in spec.items() if key not in _NOT_OF_A_JOB})
    head = own["headGroupSpec"]
    head.pop("headService", None)  # its name is taken
    pod, metadata = head["template"]["spec"], head["template"].setdefault("metadata", {})
    metadata["annotations"] = {**metadata.get("annotations", {}), _RECIPE: recipe}
    file = {"path": f"{run}.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{_RECIPE}']"}}
    pod["volumes"] = [*pod.get("volumes", ()), {"name": _VOLUME, "downwardAPI": {"items": [file]}}]
    ray, *others = pod["containers"]  # the first container is Ray's
    mount = {"name": _VOLUME, "mountPath": _PLACE, "readOnly": True}
    pod["containers"] = [{**ray, "volumeMounts": [*ray.get("volumeMounts", ()), mount]}, *others]
    return own


def render_cluster(
    release: str, namespace: str = "", values: Sequence[Path] = (), chart: Path | None = None
) -> dict[str, Any]:
    """The RayCluster that `helm template` makes of the chart. Raises ValueError."""
    chart = chart or CHART
    if not (chart / "Chart.yaml").is_file():
        raise ValueError(f"{chart}: there is no Helm chart. Run it from a checkout of Masters.")
    command = ["helm", "template", release, str(chart), *(("--namespace", namespace) if namespace else ())]
    for file in values:
        command += ["--values", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(
            "helm is not on PATH. Install it: the manifest holds the cluster that the chart renders."
        ) from None
    if done.returncode:
        raise ValueError(f"helm template: {done.stderr.strip()}")
    objects = YAML(typ="safe", pure=True).load_all(done.stdout)
    clusters = [item for item in objects if isinstance(item, dict) and item.get("kind") == "RayCluster"]
    if len(clusters) != 1:
        raise ValueError(f"{chart}: renders {len(clusters)} RayClusters, and a RayJob takes one.")
    return clusters[0]


def to_yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    """YAML that 1.1 and 1.2 readers understand alike, texts of several lines as they are."""
    yaml = YAML()
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump_all([_printable(item) for item in objects], stream)
    return stream.getvalue()


def _printable(value: Any) -> Any:
    """Quotes where a reader could take a string for something else, blocks for texts."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    if not isinstance(value, str):
        return value
    if "\n" in value and not re.search(r"[ \t]\n|\t|\r|[^\x09\x0a\x20-\x7e\xa0-￿]", value):
        return LiteralScalarString(value)
    return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_WORDS else DoubleQuotedScalarString(value)
