"""A real Kubernetes control plane in a network namespace of its own: etcd, API server, controllers, scheduler.

It needs root, `ip`, `openssl` and the binaries that `make lab-tools` builds. Everything started here ends with the block.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.k8s.tools import find

ADDRESS = "10.250.0.1"
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "ray-operator", "kubectl", "helm")
NODE_NAMES = ("cpu-1", "spot-1")
_USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    **{name: (f"system:node:{name}", "system:nodes") for name in NODE_NAMES},
}


class CommandError(Exception):
    """A command failed; the text is what it printed."""


def missing() -> list[str]:
    """Binaries that are not there."""
    return [name for name in BINARIES if find(name) is None]


@dataclass(frozen=True)
class Cluster:
    """Commands against a cluster.

    Attributes:
        folder: for files of the tests, home of their commands.
        kubeconfig: of the administrator.
        namespace: the network namespace of a control plane that the tests have started; "" for somebody's cluster.
    """

    folder: Path
    kubeconfig: Path
    namespace: str = ""

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it reaches the API server."""
        return _inside(self.namespace, command) if self.namespace else list(command)

    def run(self, tool: str, *arguments: object, stdin: str | None = None) -> str:
        """What kubectl or helm prints. Raises CommandError."""
        binary = find(tool)
        assert binary is not None
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        command = self.inside([str(binary), *map(str, arguments)])
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise CommandError(done.stderr + done.stdout)
        return done.stdout

    def kubectl(self, *arguments: object, stdin: str | None = None) -> str:
        """kubectl as the administrator."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: object) -> str:
        """Helm as the administrator."""
        return self.run("helm", *arguments)

    def get(self, *arguments: str) -> list[dict]:
        """Objects, as `kubectl get` finds them."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))["items"]

    def apply(self, *objects: dict) -> None:
        """Server-side apply."""
        self.kubectl("apply", "--server-side", "--filename", "-", stdin=yaml.safe_dump_all(objects))


def given(folder: Path) -> Cluster | None:
    """The cluster of the kubeconfig that MASTERS_TEST_KUBECONFIG names, with KubeRay's operator at work in it."""
    kubeconfig = os.environ.get("MASTERS_TEST_KUBECONFIG")
    return Cluster(folder, Path(kubeconfig)) if kubeconfig else None


@contextmanager
def control_plane(folder: Path, *, kubelets: bool = False) -> Iterator[Cluster]:
    """A control plane that keeps its data in `folder`. Without kubelets nothing may miss the heartbeats of nodes."""
    namespace = f"masters-{os.getpid()}"
    with ExitStack() as stack:
        stack.enter_context(_network(namespace))
        _certificates(folder)
        cluster = Cluster(folder, folder / "admin.kubeconfig", namespace)
        for name, command in _commands(folder, kubelets).items():
            stack.enter_context(running(cluster, name, command))
            if name == "apiserver":
                until(lambda: cluster.kubectl("get", "--raw", "/readyz"), 120)
        until(lambda: cluster.kubectl("get", "serviceaccount", "default"), 60)
        yield cluster


def _inside(namespace: str, command: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


@contextmanager
def _network(namespace: str) -> Iterator[None]:
    """The API server will not start without an address beside loopback and a default route."""
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        for line in (
            "link set lo up",
            "link add lab0 type veth peer name lab1",
            f"addr add {ADDRESS}/24 dev lab0",
            "link set lab0 up",
            "link set lab1 up",
            "route add default via 10.250.0.254 dev lab0",
        ):
            subprocess.run(["ip", "-n", namespace, *line.split()], check=True)
        subprocess.run(_inside(namespace, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]), check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


@contextmanager
def running(cluster: Cluster, name: str, command: Sequence[str], **environment: str) -> Iterator[None]:
    """A process beside the API server, for the time of the block."""
    with (cluster.folder / f"{name}.log").open("w") as log:
        line = cluster.inside(command)  # `ip netns exec` becomes the command itself
        process = subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _certificates(folder: Path) -> None:
    names = f"DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:{ADDRESS},IP:10.96.0.1"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for line in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=lab-ca"],
        ["req", "-x509", *key, "-keyout", "server.key", "-out", "server.crt", "-days", "2", "-subj", "/CN=apiserver",
         "-CA", "ca.crt", "-CAkey", "ca.key", "-addext", f"subjectAltName={names}"],
        ["req", "-x509", *key, "-keyout", "client.key", "-out", "client.crt", "-days", "2", "-subj", "/O=system:masters/CN=apiserver",
         "-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "extendedKeyUsage=clientAuth"],
        ["genrsa", "-out", "accounts.key", "2048"],
        ["rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"],
    ):  # fmt: skip
        subprocess.run(["openssl", *line], cwd=folder, check=True, capture_output=True)
    rows = [f"{name}-token,{user},{name},{group}" for name, (user, group) in _USERS.items()]
    (folder / "tokens.csv").write_text("\n".join(rows) + "\n")
    for name in _USERS:
        server = {"server": "https://127.0.0.1:6443", "certificate-authority": str(folder / "ca.crt")}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": server}],
            "users": [{"name": name, "user": {"token": f"{name}-token"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
        }  # fmt: skip
        (folder / f"{name}.kubeconfig").write_text(yaml.safe_dump(config))


def _commands(folder: Path, kubelets: bool) -> dict[str, list[str]]:
    """By name, in the order in which they start."""
    heartbeats = "--node-monitor-grace-period=20s" if kubelets else "--controllers=*,-node-lifecycle-controller"
    return {
        "etcd": [
            str(find("etcd")), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ],
        "apiserver": [
            str(find("kube-apiserver")), "--etcd-servers=http://127.0.0.1:2379", "--service-cluster-ip-range=10.96.0.0/16",
            f"--advertise-address={ADDRESS}", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--tls-cert-file={folder / 'server.crt'}", f"--tls-private-key-file={folder / 'server.key'}",
            f"--client-ca-file={folder / 'ca.crt'}", f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={folder / 'client.crt'}", f"--kubelet-client-key={folder / 'client.key'}",
        ],
        "controllers": [
            str(find("kube-controller-manager")), f"--kubeconfig={folder / 'controllers.kubeconfig'}",
            "--use-service-account-credentials", f"--service-account-private-key-file={folder / 'accounts.key'}",
            f"--root-ca-file={folder / 'ca.crt'}", "--leader-elect=false", "--bind-address=127.0.0.1",
            heartbeats,
        ],
        "scheduler": [
            str(find("kube-scheduler")), f"--kubeconfig={folder / 'scheduler.kubeconfig'}", "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ],
    }  # fmt: skip


def wait(what, seconds: float, text: object = "", every: float = 0.5):
    """Until `what` gives something true; that. AssertionError with the text after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, text or what
        time.sleep(every)


def until(check, seconds: float) -> None:
    """Until `check` raises nothing; its error after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            check()
        except CommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return
