"""Access to a cluster from a laptop: by address, or by Helm release through kubectl, with the token and never showing it.

The client is Ray's own. Nothing but `kubectl` is asked about Kubernetes, in the user's context and with the user's rights.
"""

import base64
import json
import logging
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_TOKEN_KEY = "auth_token"
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_FORWARD_SECONDS, _KUBECTL_SECONDS = 30, 60


@dataclass(frozen=True)
class Target:
    """Which cluster: an address, or a namespace and a release; all empty for the address in the environment."""

    address: str = ""
    namespace: str = ""
    release: str = ""

    @property
    def options(self) -> str:
        """The options that name the cluster again, with a leading space."""
        named = (("--address", self.address), ("-n", self.namespace), ("--release", self.release))
        return "".join(f" {option} {value}" for option, value in named if value)


@dataclass(frozen=True)
class Access:
    """A cluster that answers.

    Attributes:
        client: Ray's JobSubmissionClient.
        name: what people call it.
        url: of the job server and the dashboard, from this machine.
        headers: what a request carries, the token in it; never printed.
        forward: the command that opens a port to it, where this needed one.
    """

    client: Any
    name: str
    url: str
    headers: dict[str, str] = field(repr=False)
    forward: str = ""

    @property
    def versions(self) -> tuple[str, str]:
        """Ray here and there."""
        return self.client._client_ray_version, self.client._server_ray_version


@contextmanager
def reach(target: Target) -> Iterator[Access]:
    """Connect for the time of the block; a port-forward that this needs ends with it.

    Raises:
        ValueError: in one line, what is missing: a cluster, an answer, a token.
    """
    if target.address:
        with _errors(target.address, token=None):
            yield _connect(target.address, target.address, None)
    elif target.namespace or target.release:
        with reach_cluster(target, _find(target)) as access:
            yield access
    else:
        address = next((os.environ[name] for name in _ADDRESSES if os.environ.get(name)), "")
        if not address:
            raise ValueError("which cluster? Name one: --address http://HOST:8265, or -n NAMESPACE --release RELEASE.")
        with _errors(address, token=None):
            yield _connect(address, address, None)


@contextmanager
def reach_cluster(target: Target, cluster: dict[str, Any]) -> Iterator[Access]:
    """Connect to a RayCluster, as kubectl gives it, for the time of the block. Raises ValueError as `reach`."""
    service, token = _door(target, cluster)
    with _port_forward(target, service) as port, _errors(service, token=token):
        access = _connect(f"http://127.0.0.1:{port}", service.removesuffix("-head-svc"), token)
        yield replace(access, forward=" ".join(_command(target, "port-forward", f"svc/{service}", "8265")))


def clusters_of(target: Target) -> list[dict[str, Any]]:
    """The RayClusters of the namespace. Raises ValueError."""
    found: list[dict[str, Any]] = kubectl(target, "get", "rayclusters.ray.io", "-o", "json")["items"]
    return found


def is_lasting(cluster: dict[str, Any]) -> bool:
    """Whether a RayCluster was installed, and is not of a RayJob."""
    return not _label(cluster, "ray.io/originated-from-crd")


def _connect(address: str, name: str, token: str | None) -> Access:
    """A client; without a token of ours Ray looks for its own: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    from ray.job_submission import JobSubmissionClient

    sdk = "ray.dashboard.modules"
    for module in (f"{sdk}.dashboard_sdk", f"{sdk}.job.sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(module).setLevel(logging.WARNING)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = JobSubmissionClient(address, headers=dict(headers))
    return Access(client, name, client.get_address().rstrip("/"), headers)


def _own_token() -> str:
    """Where Ray finds a token on this machine, in its order; empty for nowhere."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if os.environ.get(name):
            return name
    return "~/.ray/auth_token" if (Path.home() / ".ray" / "auth_token").is_file() else ""


@contextmanager
def _errors(name: str, token: str | None) -> Iterator[None]:
    """What Ray's client raises, in one line. Sets what Ray reads from the environment when it is imported."""
    for variable in _ADDRESSES:
        os.environ.pop(variable, None)  # Ray prefers them to the address that it is given
    if token is None and _own_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else Ray sends none
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException

    try:
        yield
    except AuthenticationError:
        source = "its Secret" if token else _own_token()
        if not source:
            raise ValueError(
                f"{name}: the cluster wants a token, and there is none here. Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, "
                "or name -n NAMESPACE --release RELEASE: it is taken from the Secret."
            ) from None
        raise ValueError(f"{name}: the cluster refuses the token from {source}. Is it another cluster's?") from None
    except ConnectionError:
        raise ValueError(
            f"{name}: no Ray job server answers there. Is the head pod ready, and the port 8265?"
        ) from None
    except RequestException as error:
        raise ValueError(f"{name}: the connection failed: {type(error).__name__}. Try again.") from None


def _find(target: Target) -> dict[str, Any]:
    """The RayCluster of the release."""
    clusters = clusters_of(target)
    names = [item["metadata"]["name"] for item in clusters]
    if target.release:
        wanted = f"release {target.release}"
        clusters = [
            item
            for item in clusters
            if is_lasting(item)
            and target.release in (item["metadata"]["name"], _label(item, "app.kubernetes.io/instance"))
        ]
    else:
        wanted, clusters = "--release", list(filter(is_lasting, clusters))
    if len(clusters) != 1:
        found = f"RayClusters there: {', '.join(names)}" if names else "There is no RayCluster"
        raise ValueError(
            f"{wanted}{_where(target)}: must name one cluster and names {len(clusters)}. {found}. See `helm list`."
        )
    return clusters[0]


def _door(target: Target, cluster: dict[str, Any]) -> tuple[str, str | None]:
    """The service of a cluster's head, and its token; None where it wants none."""
    name = cluster["metadata"]["name"]
    head = cluster.get("status", {}).get("head", {})
    service = head.get("serviceName") or f"{name}-head-svc"
    auth = cluster["spec"].get("authOptions", {})
    if auth.get("mode") != "token":
        return service, None
    secret = kubectl(target, "get", "secret", auth.get("secretName") or name, "-o", "json")
    encoded = secret.get("data", {}).get(_TOKEN_KEY)
    if not encoded:
        raise ValueError(
            f"Secret {secret['metadata']['name']}{_where(target)}: has no key {_TOKEN_KEY}. Ask who installed the release."
        )
    return service, base64.b64decode(encoded).decode().strip()


def _where(target: Target) -> str:
    return f" in namespace {target.namespace}" if target.namespace else ""


def _label(item: dict[str, Any], key: str) -> str:
    return item["metadata"].get("labels", {}).get(key, "")


def _command(target: Target, *arguments: str) -> list[str]:
    return ["kubectl", *(("-n", target.namespace) if target.namespace else ()), *arguments]


def kubectl(target: Target, *arguments: str) -> dict[str, Any]:
    """What kubectl gives as JSON, in the target's namespace. Raises ValueError with its last line."""
    command = _command(target, *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_KUBECTL_SECONDS, check=False)
    except FileNotFoundError:
        raise ValueError("kubectl is not on PATH. Install it, or name --address.") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"`{' '.join(command)}` did not answer in {_KUBECTL_SECONDS} s.") from None
    if done.returncode:
        raise ValueError(f"`{' '.join(command)}`: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _port_forward(target: Target, service: str) -> Iterator[int]:
    """A port of this machine that leads to the dashboard, by a process of our own. No signal to us reaches it."""
    command = _command(target, "port-forward", "--address", "127.0.0.1", f"svc/{service}", ":8265")
    # A file, since a pipe would fill: it prints a line for each connection.
    with _exit_on_signals(), tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield _wait_for_port(process, printed, service)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, raise SystemExit in the block: by default Python ends without its `finally`."""
    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        ours = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, _exit)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _exit(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def _wait_for_port(process: "subprocess.Popen[bytes]", printed: Any, service: str) -> int:
    deadline = time.monotonic() + _FORWARD_SECONDS
    while True:
        ended = process.poll() is not None
        printed.seek(0)
        text = printed.read()
        found = _FORWARDED.search(text)
        if found and not ended:
            return int(found[1])
        if ended or time.monotonic() > deadline:
            why = _last_line(text) or f"nothing in {_FORWARD_SECONDS} s"
            raise ValueError(f"kubectl port-forward svc/{service}: {why}. Is the head pod ready? `kubectl get pods`.")
        time.sleep(0.05)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
