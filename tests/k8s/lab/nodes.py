"""Real nodes for the lab's control plane: each a kubelet and a containerd, with cluster DNS and kube-proxy for both.

They share a mount and a process namespace inside the lab's network namespace: when its first process ends, everything ends.
Only control groups outlive it, and are removed here. Needs control groups of version 1, and root.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.k8s.lab.controlplane import ADDRESS, Cluster, until, wait
from tests.k8s.lab.image import PAUSE, base_spec, write_images
from tests.k8s.tools import find

BINARIES = ("kubelet", "kube-proxy", "coredns", "containerd", "runc", "ctr", "nft", "go")
_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "unified")
_DNS_SERVICE = "10.96.0.10"
_FIRST = """
mount --make-rshared /
for place in /run /var/lib/cni /var/lib/kubelet /var/log; do mkdir -p $place; mount -t tmpfs tmpfs $place; done
mkdir -p /run/lock
mount --make-rshared /run
mount --bind "$1" /etc/resolv.conf
ulimit -n "$(ulimit -Hn)"
touch "$2"
while :; do sleep 1; done
"""


def missing() -> list[str]:
    """Binaries that are not there, and control groups of another version."""
    lacking = [name for name in BINARIES if find(name) is None]
    return lacking if (_CGROUPS / "pids").is_dir() else [*lacking, "control groups of version 1"]


@dataclass
class Node:
    """One node. It can lose its power, and come back under the same name."""

    name: str
    number: int
    labels: dict[str, str]
    taints: list[dict[str, str]] = field(default_factory=list)
    gpus: int = 0


@dataclass
class Nodes:
    """The nodes of a lab, and the namespaces that they run in."""

    cluster: Cluster
    folder: Path
    first: int
    images: list[Path]
    known: dict[str, Node] = field(default_factory=dict)
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, node: Node) -> None:
        """Boot the node; back when Kubernetes calls it ready."""
        self.known[node.name] = node
        self._make_cgroups(node)
        for name, text in self._files(node).items():
            (self.folder / name).write_text(text)
        state = f"/run/containerd{node.number}"
        log = self.folder / f"containerd-{node.name}.log"
        self.spawn(f"containerd-{node.name}", [_tool("containerd"), "-c", self.folder / f"{node.name}.toml"], node)
        wait(lambda: "Start streaming server" in log.read_text(), 60)  # before that kubelet gives up on it
        for image in self.images:
            self.run([_tool("ctr"), "-a", f"{state}/containerd.sock", "-n", "k8s.io", "images", "import", image])
        self.spawn(
            f"kubelet-{node.name}",
            [
                _tool("kubelet"), f"--config={self.folder / f'{node.name}.yaml'}", f"--hostname-override={node.name}",
                f"--kubeconfig={self.cluster.folder / f'{node.name}.kubeconfig'}", f"--root-dir={self.folder / f'kubelet-{node.name}'}",
                f"--node-ip={ADDRESS}", f"--node-labels={','.join(f'{k}={v}' for k, v in node.labels.items())}",
            ],
            node,
        )  # fmt: skip
        until(lambda: self.cluster.kubectl("wait", "--for=condition=Ready", f"node/{node.name}", "--timeout=1s"), 90)
        if node.gpus:
            patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(node.gpus)}]
            self.cluster.kubectl(
                "patch", "node", node.name, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}"
            )

    def power_off(self, name: str) -> None:
        """Everything on the node dies at once, as when the provider takes it back without notice."""
        node = self.known[name]
        deadline = time.monotonic() + 30
        while pids := self._pids(node):
            assert time.monotonic() < deadline, pids
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def spawn(self, name: str, command: list, node: Node | None = None) -> None:
        """Start a process that lives as long as the lab, or its node."""
        enter = ""
        if node is not None:
            for controller in _present():
                enter += f"echo $$ > {_CGROUPS / controller / self.root / node.name / 'system'}/cgroup.procs; "
        line = [*self._inside(), "bash", "-c", f'{enter}exec "$@"', "bash", *map(str, command)]
        with (self.folder / f"{name}.log").open("w") as log:
            self.started.append(subprocess.Popen(line, stdout=log, stderr=log))

    def run(self, command: list) -> str:
        """What a command prints that runs on the nodes' side."""
        line = [*self._inside(), *map(str, command)]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self.first}", "--mount", "--net", "--pid", "--"]

    @property
    def root(self) -> str:
        """Name of the control groups of this lab."""
        return f"masters-{os.getpid()}"

    def _make_cgroups(self, node: Node) -> None:
        for controller in _present():
            place = _CGROUPS / controller
            for part in (self.root, node.name, "system"):
                parent, place = place, place / part
                place.mkdir(exist_ok=True)
                if controller == "cpuset":  # a new group has neither processors nor memory
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        (place / name).write_text((parent / name).read_text())
                    (place / "cgroup.clone_children").write_text("1")

    def _pids(self, node: Node) -> list[int]:
        folder = _CGROUPS / "pids" / self.root / node.name
        return [int(line) for file in folder.rglob("cgroup.procs") for line in file.read_text().split()]

    def remove_cgroups(self) -> None:
        """The processes are gone by now."""
        for controller in _present():
            top = _CGROUPS / controller / self.root
            for folder in sorted(top.rglob("*"), key=lambda path: -len(path.parts)):
                if folder.is_dir():
                    folder.rmdir()
            if top.is_dir():
                top.rmdir()

    def _files(self, node: Node) -> dict[str, str]:
        """Configuration of containerd, its network and kubelet."""
        number, state, network = node.number, f"/run/containerd{node.number}", self.folder / f"cni{node.number}"
        network.mkdir(exist_ok=True)
        bridge = {
            "type": "bridge", "bridge": f"cni{number}", "isGateway": True, "ipMasq": False, "hairpinMode": True,
            "ipam": {
                "type": "host-local", "ranges": [[{"subnet": f"10.244.{number}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        }  # fmt: skip
        (network / "10-lab.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": f"lab{number}", "plugins": [bridge]})
        )
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": False,
            "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{self.root}/{node.name}", "enforceNodeAllocatable": [],
            "failSwapOn": False, "port": 10250 + 10 * number, "healthzPort": 10248 + 10 * number,
            "containerRuntimeEndpoint": f"unix://{state}/containerd.sock", "registerWithTaints": node.taints,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(self.cluster.folder / "ca.crt")}},
            "authorization": {"mode": "Webhook"}, "clusterDNS": [_DNS_SERVICE], "clusterDomain": "cluster.local",
            "resolvConf": str(self.folder / "resolv.conf"), "imageGCHighThresholdPercent": 100, "nodeStatusUpdateFrequency": "5s",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }  # fmt: skip
        return {
            f"{node.name}.yaml": yaml.safe_dump(kubelet),
            f"{node.name}.toml": _CONTAINERD.format(
                root=self.folder / f"containerd{number}", state=state, pause=PAUSE, network=network,
                spec=self.folder / "base-spec.json",
            ),
        }  # fmt: skip


_CONTAINERD = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{state}/containerd.sock"
[ttrpc]
  address = "{state}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "{spec}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""
_COREFILE = """
cluster.local:53 {{
  bind {address}
  kubernetes cluster.local {{
    kubeconfig {config} lab
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


@contextmanager
def nodes(cluster: Cluster, folder: Path) -> Iterator[Nodes]:
    """No node yet; DNS and the service proxy are there."""
    folder.mkdir()
    ready = folder / "ready"
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    (folder / "base-spec.json").write_text(json.dumps(base_spec()))
    first = subprocess.Popen(
        [
            "nsenter", f"--net=/run/netns/{cluster.namespace}", "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
            "bash", "-c", _FIRST, "bash", folder / "resolv.conf", ready,
        ]
    )  # fmt: skip
    found: Nodes | None = None
    try:
        wait(ready.exists, 20)
        (child,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        found = Nodes(cluster, folder, int(child), write_images(folder))
        _start_services(cluster, found)
        yield found
    finally:
        first.kill()
        first.wait()
        if found is not None:
            for process in found.started:
                process.wait(20)
            wait(lambda: not any(map(found._pids, found.known.values())), 30)
            found.remove_cgroups()


def _start_services(cluster: Cluster, found: Nodes) -> None:
    """kube-proxy for the API server and DNS, CoreDNS on the nodes' own address behind a Service without pods."""
    config = cluster.kubeconfig
    (found.folder / "Corefile").write_text(_COREFILE.format(address=ADDRESS, config=config))
    found.spawn("coredns", [_tool("coredns"), "-conf", found.folder / "Corefile"])
    found.spawn(
        "kube-proxy",
        [
            _tool("kube-proxy"), f"--kubeconfig={config}", "--proxy-mode=nftables", "--hostname-override=cpu-1",
            "--conntrack-max-per-core=0", "--cluster-cidr=10.244.0.0/16",
        ],
    )  # fmt: skip
    ports = [{"name": name, "port": 53, "protocol": kind} for name, kind in (("dns", "UDP"), ("dns-tcp", "TCP"))]
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": _DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kube-dns-1", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [ADDRESS]}], "ports": ports,
        },
    )  # fmt: skip


def _present() -> list[str]:
    return [name for name in _CONTROLLERS if (_CGROUPS / name).is_dir()]


def _tool(name: str) -> str:
    found = find(name)
    assert found is not None, name
    return found
