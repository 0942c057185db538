"""From a laptop: a recipe becomes a job of a Ray cluster, through Ray's own job API. Starts without torch and vLLM.

The cluster is found by its address, or by the namespace and release of the Helm chart through kubectl's context: then the
token is taken from the cluster's Secret and a port-forward of our own lives as long as the command. The token is in this
process's environment only; it is neither printed nor part of the job.
"""

import asyncio
import base64
import io
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from masters.config.load import load_recipe
from masters.config.run import RunConfig
from masters.rayjob import RECIPE, job_name, manifests

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_DASHBOARD = 8265
_LARGEST_RECIPE = 1 << 20
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_INSTANCE = "app.kubernetes.io/instance"


@contextmanager
def cluster(address: str | None, namespace: str | None, release: str | None) -> Iterator["JobSubmissionClient"]:
    """A client of the cluster at an address, of a release, or of the one that RAY_ADDRESS names.

    Raises:
        ValueError: where there is none, it cannot be reached, or it refuses the token.
    """
    if address and release:
        raise ValueError("--address and --release: each names a cluster. Give one.")
    if release:
        with _forwarded(release, namespace) as found:
            yield _client(found)
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        raise ValueError(
            "no cluster is named. Give --release NAME -n NAMESPACE, --address http://HOST:8265, or RAY_ADDRESS."
        )
    yield _client(address)


def _client(address: str) -> "JobSubmissionClient":
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of every upload
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        reason = (
            "was not accepted"
            if "RAY_AUTH_TOKEN" in os.environ
            else "is missing; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        )
        raise ValueError(f"{address}: the token {reason}.") from error
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(f"{address}: {str(error).splitlines()[0]}") from error


@contextmanager
def _forwarded(release: str, namespace: str | None) -> Iterator[str]:
    """The address of a release's dashboard behind a port-forward, with its token in the environment."""
    name, secret = _find(release, namespace)
    token = _kubectl(namespace, "get", "secret", secret, "-o", "jsonpath={.data.auth_token}")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": base64.b64decode(token).decode()}
    command = [_kubectl_path(), *_scope(namespace), "port-forward", f"svc/{name}-head-svc", f":{_DASHBOARD}"]
    forward = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert forward.stdout is not None
        assert forward.stderr is not None
        match = _FORWARDED.search(forward.stdout.readline())
        if match is None:
            raise ValueError(f"{name}: no port-forward: {forward.stderr.read().strip() or 'kubectl gave no port'}")
        yield f"http://127.0.0.1:{match.group(1)}"
    finally:
        forward.terminate()
        forward.wait()


def _find(release: str, namespace: str | None) -> tuple[str, str]:
    """(RayCluster, Secret with its token) of a release."""
    listed = json.loads(_kubectl(namespace, "get", "rayclusters.ray.io", "-l", f"{_INSTANCE}={release}", "-o", "json"))
    if len(listed["items"]) != 1:
        where = f"namespace {namespace}" if namespace else "this context's namespace"
        raise ValueError(
            f"--release {release}: {len(listed['items'])} Ray clusters of it in {where}. See `helm list -A`."
        )
    found = listed["items"][0]
    name = found["metadata"]["name"]
    return name, found["spec"].get("authOptions", {}).get("secretName") or name


def _kubectl(namespace: str | None, *arguments: str) -> str:
    command = [_kubectl_path(), *_scope(namespace), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def _kubectl_path() -> str:
    path = shutil.which("kubectl")
    if path is None:
        raise ValueError("--release needs kubectl on PATH. Install it, or give --address.")
    return path


def _scope(namespace: str | None) -> list[str]:
    return ["--namespace", namespace] if namespace else []


def entrypoint(recipe: str, stage: str | None, overrides: Sequence[str]) -> str:
    """The shell command of the job."""
    return shlex.join(["python", "-m", f"ray_jobs.{stage or 'pipeline'}", recipe, *overrides])


def submit(client: "JobSubmissionClient", recipe: Path, stage: str | None, overrides: Sequence[str]) -> str:
    """Check the recipe, upload it and nothing else, and start the job; its id.

    Raises:
        ValueError: for a recipe that cannot be run on a cluster; nothing was uploaded then.
    """
    config = checked(recipe, overrides)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(recipe, Path(folder) / recipe.name)
        try:
            return client.submit_job(
                entrypoint=entrypoint(recipe.name, stage, overrides),
                runtime_env={"working_dir": folder},
                metadata={"run": config.name, "storage": config.storage},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            raise ValueError(f"{client.get_address()}: the head is still starting. Try again in a minute.") from error


def checked(recipe: Path, overrides: Sequence[str]) -> RunConfig:
    """The recipe, if it can be run on a cluster. Raises ValueError."""
    config = load_recipe(recipe, overrides)
    if "://" not in config.storage and not os.path.isabs(config.storage):
        raise ValueError(
            f"{recipe}: storage = {config.storage}: on a cluster a path must be absolute and on a volume that all pods mount. "
            "Use s3://, gs:// or, with the chart's own volume, --set storage=/runs."
        )
    size = recipe.stat().st_size
    if size > _LARGEST_RECIPE:
        raise ValueError(f"{recipe}: {size:,} bytes are no recipe. Data belongs into storage, not into the upload.")
    return config


def render(recipe: Path, stage: str | None, overrides: Sequence[str], cluster: Path) -> str:
    """A RayJob that runs the recipe, with the recipe in a ConfigMap, as YAML. `cluster` holds the RayCluster to use.

    Raises:
        ValueError: for a recipe that cannot be run on a cluster, and for a file without a RayCluster.
    """
    config, stream = checked(recipe, overrides), io.StringIO()
    objects = list(YAML(typ="safe", pure=True).load_all(cluster.read_text(encoding="utf-8")))
    listed = [item for one in objects if one for item in one.get("items", [one])]
    documents = manifests(
        name=job_name(config.name, stage or "pipeline"),
        recipe=recipe.read_text(encoding="utf-8"),
        command=entrypoint(RECIPE, stage, [*overrides, f"name={config.name}"]),
        cluster=listed,
    )
    YAML(typ="rt").dump_all(documents, stream)
    return stream.getvalue()


def version_warning(client: "JobSubmissionClient") -> str | None:
    """One line where client and cluster are of different Ray versions."""
    import ray

    there = client._server_ray_version  # asked for when the client was made; it has no public name
    if there == ray.__version__:
        return None
    return f"Ray is {ray.__version__} here and {there} on the cluster: submitting works, other features may not"


def follow(client: "JobSubmissionClient", job: str, say: Callable[[str], object]) -> str:
    """Print a job's output until it ends; how it ended: SUCCEEDED, FAILED or STOPPED."""

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            for line in text.splitlines():
                say(line)

    asyncio.run(tail())
    return describe(client, job)["status"]


def logs(client: "JobSubmissionClient", job: str) -> str:
    """What a job has printed. Raises ValueError for a job that is not there."""
    describe(client, job)
    return client.get_job_logs(job)


def stop(client: "JobSubmissionClient", job: str) -> bool:
    """Stop a job; whether it was running. Raises ValueError for a job that is not there."""
    describe(client, job)
    return client.stop_job(job)


def describe(client: "JobSubmissionClient", job: str) -> dict[str, Any]:
    """Status, message, times and metadata of a job. Raises ValueError for one that is not there."""
    try:
        info = client.get_job_info(job)
    except RuntimeError as error:
        raise ValueError(f"{job}: the cluster knows no such job. `masters status` lists them.") from error
    return {
        "status": str(info.status.value),
        "message": info.message or "",
        "entrypoint": info.entrypoint,
        "start": (info.start_time or 0) / 1000,
        "end": (info.end_time or 0) / 1000,
        "metadata": info.metadata or {},
    }


def jobs(client: "JobSubmissionClient") -> list[str]:
    """Ids of all submitted jobs, the newest last."""
    listed = sorted(client.list_jobs(), key=lambda info: info.start_time or 0)
    return [info.submission_id for info in listed if info.submission_id]


def nodes_by_group(address: str) -> dict[str, int]:
    """Living nodes by worker group, from Ray's state API; `head` is the head."""
    from ray.util.state import list_nodes

    found: Counter[str] = Counter()
    for node in list_nodes(address=address, filters=[("state", "=", "ALIVE")], limit=10_000):
        group = (node.labels or {}).get("ray.io/node-group")
        found[group or ("head" if node.is_head_node else "no group")] += 1
    return dict(sorted(found.items()))
