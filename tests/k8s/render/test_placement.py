"""Where the pods of each cloud's scenario may run, on nodes labelled and tainted as that cloud does it."""

import re
from dataclasses import dataclass, field

import pytest
import yaml

from tests.k8s.tools import ROOT

GPU = ("nvidia.com/gpu", "present")
POOLS = (ROOT / "k8s" / "docs" / "pools.md").read_text()


@dataclass
class Node:
    """As a cloud makes it."""

    labels: dict[str, str]
    taints: list[tuple[str, str]] = field(default_factory=list)  # all NoSchedule
    gpus: bool = False


def gpu_taints(cloud: str) -> list[tuple[str, str]]:
    """GKE taints GPU nodes. The others do not: what the lines of k8s/docs/pools.md tell them to set, of both GPU pools."""
    if cloud == "gke":
        return [GPU]
    if cloud == "aks":
        lines = re.sub(r"\\\n\s*", "", POOLS).splitlines()
        added = [
            next(line for line in lines if "az aks" in line and f"-n {pool} " in line) for pool in ("spot", "train")
        ]
        return [GPU] if all(" --node-taints nvidia.com/gpu=present:NoSchedule " in line for line in added) else []
    found = [one for text in re.findall(r"```yaml\n(.*?)```", POOLS, re.DOTALL) for one in yaml.safe_load_all(text)]
    if cloud == "karpenter":
        pools = [one["spec"]["template"]["spec"] for one in found if one.get("kind") == "NodePool"]
    else:
        groups = next(one["managedNodeGroups"] for one in found if "managedNodeGroups" in one)
        pools = [one for one in groups if one["name"] in ("spot", "train")]
    assert len(pools) == 2
    wanted = {"key": GPU[0], "value": GPU[1], "effect": "NoSchedule"}
    return [GPU] if all(pool.get("taints") == [wanted] for pool in pools) else []


def nodes(cloud: str, tainted: bool = True) -> dict[str, Node]:
    """(spot|on-demand)-(cpu|gpu) -> node. GKE taints spot nodes that it makes itself, but not those of a pool."""
    spot, on_demand, taint = {
        "gke": ({"cloud.google.com/gke-spot": "true"}, {}, True),
        "eks": ({"eks.amazonaws.com/capacityType": "SPOT"}, {"eks.amazonaws.com/capacityType": "ON_DEMAND"}, False),
        "karpenter": ({"karpenter.sh/capacity-type": "spot"}, {"karpenter.sh/capacity-type": "on-demand"}, False),
        "aks": ({"kubernetes.azure.com/scalesetpriority": "spot"}, {}, True),
    }[cloud]
    taints = list(spot.items()) if taint and tainted else []
    return {
        "spot-cpu": Node(spot, taints),
        "spot-gpu": Node(spot, [*taints, *gpu_taints(cloud)], gpus=True),
        "on-demand-cpu": Node(on_demand),
        "on-demand-gpu": Node(on_demand, gpu_taints(cloud), gpus=True),
    }


def tolerates(pod, taint: tuple[str, str]) -> bool:
    key, value = taint
    for one in pod.spec.get("tolerations", []):
        same = one.get("operator") == "Exists" or one.get("value") == value
        if one.get("key") == key and same and one.get("effect") in (None, "NoSchedule"):
            return True
    return False


def fits(pod, node: Node) -> bool:
    """The scheduler's view, as far as the chart speaks of it; accelerator names are the user's own selectors."""
    ours = {key: value for key, value in pod.spec.get("nodeSelector", {}).items() if "gpu-name" not in key}
    ours.pop("cloud.google.com/gke-accelerator", None)
    if any(node.labels.get(key) != value for key, value in ours.items()):
        return False
    required = pod.spec.get("affinity", {}).get("nodeAffinity", {})
    for term in required.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", []):
        for rule in term["matchExpressions"]:
            assert rule["operator"] == "NotIn"
            if node.labels.get(rule["key"]) in rule["values"]:
                return False
    needs_gpu = "nvidia.com/gpu" in pod.ray["resources"]["limits"]
    return (node.gpus or not needs_gpu) and all(tolerates(pod, taint) for taint in node.taints)


@pytest.mark.parametrize(
    ("cloud", "tainted"), [("gke", True), ("gke", False), ("eks", True), ("karpenter", True), ("aks", True)]
)
def test_every_pod_fits_its_own_kind_of_node_and_no_other(rendered, cloud, tainted):
    some = rendered(cloud, "--set", "workerGroups.generate-ondemand.enabled=true")
    wanted = {
        "headgroup": "on-demand-cpu", "judge": "on-demand-cpu", "generate": "spot-gpu",
        "generate-ondemand": "on-demand-gpu", "train": "on-demand-gpu", "lab-test": "on-demand-cpu",
    }  # fmt: skip
    for pod in some.pods():
        assert [name for name, node in nodes(cloud, tainted).items() if fits(pod, node)] == [wanted[pod.name]], pod.name


def test_without_the_taint_a_head_may_land_on_a_gpu_node(rendered):
    """Why the lines of k8s/docs/pools.md set it: the chart cannot keep pods off nodes that look like any other."""
    bare = Node({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, gpus=True)
    assert fits(rendered("eks").head, bare)


@pytest.mark.parametrize("cloud", ["gke", "eks", "karpenter", "aks"])
def test_a_judge_on_spot_cpus_is_a_value_away(rendered, cloud):
    pod = rendered(cloud, "--set", "workerGroups.judge.spot=true").workers["judge"]
    found = [name for name, node in nodes(cloud).items() if fits(pod, node)]
    assert found == ["spot-cpu"]


def test_without_a_cloud_nothing_but_the_gpu_is_asked(rendered):
    for name, pod in rendered("minimal").workers.items():
        assert not {"nodeSelector", "tolerations", "affinity"} & pod.spec.keys(), name


def test_the_users_own_selectors_and_tolerations_are_added(rendered):
    generate = rendered("aks").workers["generate"]
    assert tolerates(generate, ("sku", "gpu"))
    assert tolerates(generate, ("kubernetes.azure.com/scalesetpriority", "spot"))
    selector = rendered("gke").workers["generate"].spec["nodeSelector"]
    assert selector == {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true"}


def test_head_and_gang_are_not_evicted(scenario):
    for pod in (scenario.head, *scenario.workers.values()):
        protected = pod.name in ("headgroup", "train")
        assert (pod.annotations.get("karpenter.sh/do-not-disrupt") == "true") is protected, pod.name
        found = pod.annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict")
        assert (found == "false") is protected, pod.name


def test_budgets_hold_every_pod_of_head_and_gang(rendered):
    """An integer minAvailable: a RayCluster has no scale subresource, so Kubernetes takes no other form.

    A budget is for the pods of the cluster and of any number of RayJobs, and the schema takes 1000 pods of a group.
    """
    found = {
        one["spec"]["selector"]["matchLabels"]["ray.io/group"]: one["spec"]["minAvailable"]
        for one in rendered("gke").of("PodDisruptionBudget")
    }
    assert found.keys() == {"headgroup", "train"}
    assert all(isinstance(least, int) and least > 100 * 1000 for least in found.values())
    assert not rendered("lab").of("PodDisruptionBudget")


def test_the_priority_class_is_of_head_and_gang(rendered):
    some = rendered("eks")
    (made,) = some.of("PriorityClass")
    holders = {pod.name for pod in some.pods() if pod.spec.get("priorityClassName") == made["metadata"]["name"]}
    assert holders == {"headgroup", "train"}


def test_without_autoscaling_groups_have_their_least_size(rendered):
    some = rendered("kueue-fixed")
    assert {name: group["replicas"] for name, group in some.groups.items()} == {"judge": 1, "generate": 4, "train": 2}
    assert "autoscalerOptions" not in some.cluster["spec"]


def test_kueue_gets_its_label_and_the_elastic_annotation(rendered):
    elastic, fixed = rendered("kueue").cluster["metadata"], rendered("kueue-fixed").cluster["metadata"]
    assert elastic["labels"]["kueue.x-k8s.io/queue-name"] == "distillation"
    assert elastic["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}
    assert "annotations" not in fixed
