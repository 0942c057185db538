"""Tier B: install, upgrade, rollback and uninstall against a real API server; rights and places as Kubernetes decides them."""

import json
import time

import pytest

from masters.cluster.rayjob import Limits, manifests
from tests.k8s.chart import CHART
from tests.k8s.lab.controlplane import CommandError, until, wait
from tests.k8s.render.test_placement import nodes

pytestmark = pytest.mark.engine

CLOUDS = ("gke", "eks", "karpenter", "aks")
NO_MONITORING = ("--set", "monitoring.podMonitor.enabled=false", "--set", "monitoring.rules.enabled=false")
# Model caches of 1,000 Gi and more lie on their disks.
LARGE = {"cpu": "200", "memory": "2Ti", "pods": "50", "ephemeral-storage": "8Ti"}


def install(cluster, chart, namespace, scenario, *options, action="install"):
    values = CHART / "ci" / f"{scenario}.yaml"
    create = ("--create-namespace",) if action == "install" else ()
    release = ("lab", chart, "--namespace", namespace, "--values", values)
    return cluster.helm(action, *release, *create, *NO_MONITORING, *options)


def ray_cluster(cluster, namespace):
    (found,) = cluster.get("rayclusters", "--namespace", namespace)
    return found


def wait_for_rights(cluster, namespace):
    """The operator gives the autoscaler its rights a moment after the RayCluster is there."""
    until(lambda: cluster.kubectl("get", "rolebinding", "lab", "--namespace", namespace), 30)


@pytest.mark.parametrize(
    "scenario", ["minimal", "lab", "gke", "eks", "karpenter", "aks", "s3", "gcs", "gcs-ft", "kueue"]
)
def test_every_scenario_installs_and_leaves_only_its_claims(cluster, chart, scenario):
    namespace = f"install-{scenario}"
    said = install(cluster, chart, namespace, scenario)
    assert "STATUS: deployed" in said
    assert ray_cluster(cluster, namespace)["metadata"]["name"] == "lab"
    service = ("get", "service", "lab-head-svc", "--namespace", namespace)
    until(lambda: cluster.kubectl(*service), 30)  # the operator is at it
    cluster.helm("uninstall", "lab", "--namespace", namespace, "--wait")
    kinds = "rayclusters,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,resourcequotas,secrets"

    def left():
        found = {(o["kind"], o["metadata"]["name"]) for o in cluster.get(kinds, "--namespace", namespace)}
        return found - {("ServiceAccount", "default")}

    # The collector takes what the operator made; it looks for new kinds, as RayCluster is one, every half minute.
    wait(lambda: not left(), 120, left)
    assert all(c["metadata"]["name"].startswith("lab-") for c in cluster.get("pvc", "--namespace", namespace))


def test_a_field_that_kuberay_does_not_know_is_refused(cluster, chart):
    install(cluster, chart, "typo", "minimal")
    wrong = ray_cluster(cluster, "typo")
    for key in ("managedFields", "resourceVersion", "uid"):
        wrong["metadata"].pop(key, None)
    wrong["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(CommandError, match=r"workerGroupSpecs\[0\].maxReplica: field not declared in schema"):
        cluster.apply(wrong)


def test_an_upgrade_keeps_what_the_autoscaler_wrote_and_a_rollback_goes_back_whole(cluster, chart):
    install(cluster, chart, "upgrade", "minimal")
    groups = [group["groupName"] for group in ray_cluster(cluster, "upgrade")["spec"]["workerGroupSpecs"]]
    place = groups.index("generate")
    patch = f'[{{"op": "replace", "path": "/spec/workerGroupSpecs/{place}/replicas", "value": 2}}]'
    wait_for_rights(cluster, "upgrade")
    head = "system:serviceaccount:upgrade:lab-head"
    cluster.kubectl(
        "patch", "raycluster", "lab", "--namespace", "upgrade", "--type", "json", "--patch", patch, "--as", head
    )

    def group():
        return ray_cluster(cluster, "upgrade")["spec"]["workerGroupSpecs"][place]

    before = group()["maxReplicas"]
    assert group()["replicas"] == 2
    install(
        cluster, chart, "upgrade", "minimal", "--set", "workerGroups.generate.maxReplicas=9", "--force-conflicts", action="upgrade"
    )  # fmt: skip
    assert (group()["replicas"], group()["maxReplicas"]) == (2, 9)
    cluster.helm("rollback", "lab", "1", "--namespace", "upgrade", "--force-conflicts")
    assert (group()["replicas"], group()["maxReplicas"]) == (0, before)  # the old manifest, as the docs warn


def test_policy_and_budgets_are_about_the_pods_of_rayjobs_too(cluster, chart):
    """The operator names a RayJob's cluster, and labels its pods; the budgets count them."""
    namespace = "jobs"
    install(cluster, chart, namespace, "minimal", "--set", "podDisruptionBudget.enabled=true")
    wait_for_rights(cluster, namespace)
    spec = ray_cluster(cluster, namespace)
    cluster.apply(*manifests(spec, "", "mine", "true", Limits(), namespace=namespace))
    (policy,) = cluster.get("networkpolicies", "--namespace", namespace)
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in chosen.items())

    def heads():
        pods = cluster.get("pods", "--namespace", namespace, "--selector", f"{selector},ray.io/node-type=head")
        return sorted(pod["metadata"]["labels"]["ray.io/cluster"] for pod in pods)

    wait(lambda: len(heads()) == 2, 60, heads)
    assert heads()[0] == "lab"
    assert heads()[1].startswith("mine-")

    def guarded():
        (budget,) = cluster.get("poddisruptionbudgets", "--namespace", namespace)
        status = budget.get("status", {})
        return status.get("expectedPods"), status.get("disruptionsAllowed")

    wait(lambda: guarded() == (2, 0), 60, guarded)
    cluster.kubectl("delete", "rayjob", "mine", "--namespace", namespace)


def test_the_autoscaler_may_do_its_work_and_no_more_and_workers_nothing(cluster, chart):
    install(cluster, chart, "rights", "minimal")
    wait_for_rights(cluster, "rights")

    def may(account, *action):
        who = f"system:serviceaccount:rights:lab-{account}"
        try:
            return cluster.kubectl("auth", "can-i", *action, "--namespace", "rights", "--as", who).strip() == "yes"
        except CommandError:
            return False

    for action in (("patch", "rayclusters.ray.io"), ("list", "pods"), ("patch", "pods")):
        assert may("head", *action)
        assert not may("worker", *action)
    for action in (("get", "secrets"), ("create", "pods"), ("delete", "rayclusters.ray.io"), ("create", "pods/exec")):
        assert not may("head", *action)
        assert not may("worker", *action)


def test_a_namespace_is_the_border_between_releases(cluster, chart):
    """Why k8s/docs/trust.md wants one a team: within it KubeRay's own Role gives each head every cluster."""
    people = "submitters.create=true,submitters.subjects[0].kind=User,submitters.subjects[0].name=ana"
    install(cluster, chart, "team-a", "minimal", "--set", people)
    install(cluster, chart, "team-b", "minimal")
    values = CHART / "ci" / "minimal.yaml"
    cluster.helm("install", "second", chart, "--namespace", "team-a", "--values", values, *NO_MONITORING)
    for namespace in ("team-a", "team-b"):
        wait_for_rights(cluster, namespace)

    def may(who, verb, what, namespace):
        try:
            return cluster.kubectl("auth", "can-i", verb, what, "--namespace", namespace, "--as", who).strip() == "yes"
        except CommandError:
            return False

    head = "system:serviceaccount:team-a:lab-head"
    assert may(head, "patch", "rayclusters.ray.io/second", "team-a")
    assert not may(head, "patch", "rayclusters.ray.io/lab", "team-b")
    assert not may(head, "list", "pods", "team-b")
    assert may("ana", "get", "secrets/lab", "team-a")
    for secret, namespace in (("second", "team-a"), ("lab", "team-b")):
        assert not may("ana", "get", f"secrets/{secret}", namespace)
    assert not may("ana", "create", "rayjobs.ray.io", "team-b")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_scheduler_binds_every_pod_to_its_own_kind_of_node(cluster, chart, cloud):
    if not cluster.namespace:
        pytest.skip("nodes are made, and all removed, in a control plane of the tests' own only")
    make_nodes(cluster, cloud)
    namespace = f"place-{cloud}"
    ones = [
        f"--set=workerGroups.{group}.minReplicas=1" for group in ("judge", "generate", "generate-ondemand", "train")
    ]
    install(cluster, chart, namespace, cloud, *ones, "--set", "workerGroups.generate-ondemand.enabled=true", "--set", "storage.kind=s3",
            "--set", "modelCache.kind=emptyDir,modelCache.storageClassName=,storage.pvc.storageClassName=,resourceQuota.enabled=false")  # fmt: skip
    wanted = {
        "headgroup": "on-demand-cpu", "judge": "on-demand-cpu", "generate": "spot-gpu", "generate-ondemand": "on-demand-gpu",
        "train": "on-demand-gpu",
    }  # fmt: skip
    if cloud == "gke":
        wanted["generate-ondemand"] = "on-demand-l4"
    try:
        assert bound(cluster, namespace, len(wanted)) == wanted
    finally:
        cluster.helm("uninstall", "lab", "--namespace", namespace)
        cluster.kubectl("delete", "pods", "--all", "--namespace", namespace, "--force")  # no kubelet will confirm
        cluster.kubectl("delete", "nodes", "--all")


def make_nodes(cluster, cloud):
    """Ready nodes without kubelets, labelled and tainted as the cloud does it; GPU models by the selectors of the scenario."""
    models = {
        "gke": {"spot-gpu": "nvidia-l4", "on-demand-gpu": "nvidia-tesla-a100"},
        "karpenter": {"spot-gpu": "l40s", "on-demand-gpu": "a100"},
    }.get(cloud, {})
    label = {"gke": "cloud.google.com/gke-accelerator", "karpenter": "karpenter.k8s.aws/instance-gpu-name"}.get(cloud)
    made = nodes(cloud)
    if cloud == "gke":
        made["on-demand-l4"] = made["on-demand-gpu"]
        models["on-demand-l4"] = "nvidia-l4"
    for name, node in made.items():
        gpus = {"nvidia.com/gpu": "16"} if node.gpus else {}
        labels = node.labels | ({label: models[name]} if name in models else {})
        cluster.apply(
            {
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
                "spec": {"taints": [{"key": k, "value": v, "effect": "NoSchedule"} for k, v in node.taints]},
                "status": {"capacity": LARGE | gpus, "allocatable": LARGE | gpus},
            }
        )  # fmt: skip
        status = json.dumps({"status": {"capacity": LARGE | gpus, "allocatable": LARGE | gpus}})
        cluster.kubectl("patch", "node", name, "--subresource", "status", "--type", "merge", "--patch", status)
        cluster.kubectl("taint", "nodes", name, "node.kubernetes.io/not-ready-")


def bound(cluster, namespace, count):
    """Group -> kind of node, once all pods are bound; after a minute the scheduler's words for those that are not."""
    deadline = time.monotonic() + 60
    while True:
        pods = cluster.get("pods", "--namespace", namespace)
        missing = [pod for pod in pods if not pod["spec"].get("nodeName")]
        if (len(pods) == count and not missing) or time.monotonic() > deadline:
            return {
                pod["metadata"]["labels"]["ray.io/group"]: pod["spec"]["nodeName"]
                if pod not in missing
                else str(pod["status"].get("conditions"))
                for pod in pods
            }
        time.sleep(0.5)
