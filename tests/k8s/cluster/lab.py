"""A whole small cluster: control plane, two nodes, KubeRay's operator, a shared volume; and a laptop beside it.

`python -m tests.k8s.cluster.lab FOLDER` keeps one up until its input ends, and prints how to speak to it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.k8s import chart as charts
from tests.k8s.chart import CHART
from tests.k8s.lab import kuberay
from tests.k8s.lab.controlplane import Cluster, control_plane, given
from tests.k8s.lab.nodes import Node, Nodes, nodes
from tests.k8s.tools import ROOT, TOOLS

CPU = Node("cpu-1", 1, {"lab/capacity": "on-demand"})
SPOT = Node(
    "spot-1", 2, {"lab/capacity": "spot"}, [{"key": "lab/spot", "value": "true", "effect": "NoSchedule"}], gpus=2
)
PLANTED = "hf_thisIsPlantedAndMustNotLeak"
_VOLUME = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}


@dataclass
class Lab:
    """What the tests speak to.

    Attributes:
        cluster: kubectl and helm, as the administrator.
        nodes: to take a node's power, and give it back; None where the cluster is somebody's.
        runs: the shared volume, which pods mount at /runs, as a folder of this machine.
        chart: the chart to install.
    """

    cluster: Cluster
    nodes: Nodes | None
    runs: Path
    chart: Path

    def install(self, namespace: str, *options: str, action: str = "install") -> str:
        """The release `lab` with the values of ci/lab.yaml."""
        values = CHART / "ci" / "lab.yaml"
        secret = ("--set", "huggingFace.existingSecret=hugging-face")
        return self.cluster.helm(action, "lab", self.chart, "-n", namespace, "--values", values, *secret, *options)

    def prepare(self, namespace: str) -> None:
        """A namespace under the restricted Pod Security standard, with the claim `runs` and a token of the hub."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
            {
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"runs-{namespace}"},
                "spec": {
                    **_VOLUME, "capacity": {"storage": "10Gi"}, "hostPath": {"path": str(self.runs)},
                    "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": namespace, "name": "runs"},
                },
            },
            {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "runs", "namespace": namespace},
                "spec": {**_VOLUME, "resources": {"requests": {"storage": "10Gi"}}},
            },
            {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hugging-face", "namespace": namespace},
                "stringData": {"token": PLANTED},
            },
        )  # fmt: skip

    def laptop(self, *command: object, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command that sees the cluster only through a kubeconfig, as on somebody's laptop."""
        home = self.cluster.folder / "laptop"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{TOOLS}:{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}", "KUBECONFIG": str(self.cluster.kubeconfig),
            "HOME": str(home), "PYTHONPATH": str(ROOT), **(variables or {}),
        }  # fmt: skip
        line = self.cluster.inside(list(map(str, command)))
        return subprocess.Popen(
            line, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def masters(self, *arguments: object, seconds: float = 600) -> str:
        """What a command of ours prints. Raises AssertionError with it where it fails."""
        process = self.laptop("masters", *arguments)
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(process.communicate()[0]) from None
        assert process.returncode == 0, printed
        return printed

    @contextmanager
    def job_server(self, namespace: str) -> Iterator[str]:
        """The address of the head's job server, as a port-forward of the laptop gives it."""
        forward = self.laptop("kubectl", "port-forward", "--namespace", namespace, "service/lab-head-svc", ":8265")
        assert forward.stdout is not None
        try:
            said = forward.stdout.readline()
            port = re.search(r"127\.0\.0\.1:(\d+) ->", said)
            assert port, said
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            forward.terminate()
            forward.communicate()

    def pods(self, namespace: str, group: str = "") -> list[dict]:
        """Ray's pods, of one group or all."""
        selector = f"ray.io/group={group}" if group else "ray.io/cluster"
        return self.cluster.get("pods", "--namespace", namespace, "--selector", selector)


@contextmanager
def running(folder: Path) -> Iterator[Lab]:
    """The lab, with both nodes ready and the operator at work; or the cluster that is given (see k8s/README.md)."""
    chart = charts.vendored(folder / "charts")
    if cluster := given(folder):
        yield Lab(cluster, None, Path(os.environ["MASTERS_TEST_RUNS"]), chart)
        return
    runs = folder / "runs"
    runs.mkdir()
    os.chown(runs, 1000, 1000)
    with control_plane(folder, kubelets=True) as cluster:
        kuberay.define(cluster)
        with nodes(cluster, folder / "nodes") as found:
            found.start(CPU)
            found.start(SPOT)
            found.spawn("operator", kuberay.command(cluster))  # on their side: it finds heads by DNS
            yield Lab(cluster, found, runs, chart)


def _main(folder: str) -> None:
    with running(Path(folder)) as lab:
        lab.prepare("masters")
        kubeconfig = lab.cluster.kubeconfig
        print(f"export KUBECONFIG={kubeconfig} MASTERS_TEST_KUBECONFIG={kubeconfig} MASTERS_TEST_RUNS={lab.runs}")
        print(f"commands reach it behind: {' '.join(lab.cluster.inside([]))}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(sys.argv[1])
