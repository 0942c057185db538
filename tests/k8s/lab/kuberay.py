"""KubeRay for a cluster of the tests: its resource definitions, and its own operator, which `make lab-tools` builds."""

from tests.k8s.lab.controlplane import ADDRESS, Cluster, until
from tests.k8s.render.strict import CRDS
from tests.k8s.tools import TOOLS, find

OPERATOR = "ray-operator"
JOB_SERVER = 8265


def define(cluster: Cluster) -> None:
    """Back when the API server takes RayClusters, RayJobs, and RayServices, which the operator watches, too."""
    for file in [*sorted(CRDS.glob("*.yaml")), TOOLS / "ray.io_rayservices.yaml"]:
        cluster.kubectl("apply", "--server-side", "--filename", file)
    for kind in ("rayclusters", "rayjobs", "rayservices"):
        until(lambda kind=kind: cluster.get(kind), 60)  # served a moment after the definition is taken


def command(cluster: Cluster) -> list[str]:
    """The operator as a process, with the administrator's rights."""
    addresses = ("--metrics-addr=127.0.0.1:8080", "--health-probe-bind-address=127.0.0.1:8082")
    return [str(find(OPERATOR)), f"--kubeconfig={cluster.kubeconfig}", "--enable-leader-election=false", *addresses]


def environment() -> dict[str, str]:
    """Where no pod runs: job servers of heads are played at one address, and a lost head has as long as k8s/README.md says."""
    return {
        "ENABLE_GCS_FT_REDIS_CLEANUP": "false",  # at the end of a cluster a Job empties its Redis, and no kubelet would run it
        "HTTP_PROXY": f"http://{ADDRESS}:{JOB_SERVER}",  # of heads alone: the API server is asked by https
        "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS": "3600",
    }
