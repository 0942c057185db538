"""What real pods need beside Ray: devices, a fast network, one zone, containers and labels of the user's own."""

import copy
import json

import pytest

from tests.k8s.render.pods import quantity


def test_devices_are_asked_for_and_limited_alike(rendered):
    for scenario, wanted in {
        "eks-efa": {"nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 4, "hugepages-2Mi": "5120Mi"},
        "aks-infiniband": {"nvidia.com/gpu": 8, "rdma/shared_ib": 1},
    }.items():
        resources = rendered(scenario).workers["train"].ray["resources"]
        for kind in ("requests", "limits"):
            assert wanted.items() <= resources[kind].items(), scenario
        assert "rdma/shared_ib" not in rendered(scenario).workers["generate"].ray["resources"]["limits"]


def test_large_counts_of_devices_stay_whole(rendered):
    given = json.dumps({"example.com/slot": 12345678})
    limits = rendered(None, "--set-json", f"workerGroups.train.resources={given}").workers["train"].ray["resources"]
    assert limits["limits"]["example.com/slot"] == 12345678
    assert isinstance(limits["limits"]["example.com/slot"], int)


def test_slices_of_a_gpu_are_gpus_to_ray(rendered):
    """By the function that the autoscaler's container runs: it finds names that end with gpu by itself, and no others."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    some = rendered("on-prem-proxy")
    limits = some.workers["generate"].ray["resources"]["limits"]
    assert limits["nvidia.com/mig-3g.40gb"] == 1
    assert "nvidia.com/gpu" not in limits
    cluster = copy.deepcopy(some.cluster)
    cluster["metadata"]["namespace"] = "masters"
    types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    assert types["generate"]["resources"]["GPU"] == 1
    assert types["train"]["resources"]["GPU"] == 8
    assert "num-gpus" not in some.groups["train"]["rayStartParams"]


def test_what_the_fast_network_asks_for_is_on_its_group_alone(rendered):
    some = rendered("on-prem-proxy")
    train = some.workers["train"]
    assert train.ray["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert (train.spec["hostNetwork"], train.spec["hostIPC"]) == (True, True)
    assert train.spec["dnsPolicy"] == "ClusterFirstWithHostNet"  # else it would not find the head by name
    for pod in (some.head, some.workers["generate"], some.workers["judge"]):
        assert pod.ray["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not {"hostNetwork", "hostIPC", "dnsPolicy"} & pod.spec.keys()


def zone(pod, kind: str) -> list[dict]:
    return pod.spec.get("affinity", {}).get("podAffinity", {}).get(f"{kind}DuringSchedulingIgnoredDuringExecution", [])


def test_a_gang_keeps_to_one_zone_and_to_itself(rendered):
    wanted = {
        "labelSelector": {
            "matchLabels": {
                "ray.io/is-ray-node": "yes", "app.kubernetes.io/instance": "lab", "ray.io/group": "train"
            }
        },
        "matchLabelKeys": ["ray.io/cluster"],  # of two RayJobs each has its own zone
        "topologyKey": "topology.kubernetes.io/zone",
    }  # fmt: skip
    (wish,) = zone(rendered().workers["train"], "preferred")
    assert wish == {"weight": 100, "podAffinityTerm": wanted}
    assert zone(rendered("eks-efa").workers["train"], "required") == [wanted]
    assert not zone(rendered("eks-efa").workers["generate"], "required")
    assert "podAffinity" not in rendered("on-prem-proxy").workers["train"].spec.get("affinity", {})


def test_the_presets_and_the_users_affinity_meet(rendered):
    """The gang is in one zone and off spot nodes; a nodeAffinity of the user's is instead of the preset's."""
    rule = "requiredDuringSchedulingIgnoredDuringExecution"
    gke = rendered("gke").workers["train"].spec["affinity"]
    assert gke.keys() == {"nodeAffinity", "podAffinity"}
    own = json.dumps({"podAntiAffinity": {rule: [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}})
    both = rendered("gke", "--set-json", f"workerGroups.train.affinity={own}").workers["train"].spec["affinity"]
    assert both.keys() == {"nodeAffinity", "podAffinity", "podAntiAffinity"}
    (term,) = (
        rendered("karpenter-pools").workers["generate"].spec["affinity"]["nodeAffinity"][rule]["nodeSelectorTerms"]
    )
    assert term["matchExpressions"][0]["key"] == "karpenter.k8s.aws/instance-gpu-name"


def test_a_spread_counts_the_pods_of_its_group(rendered):
    (spread,) = rendered("karpenter-pools").workers["generate"].spec["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["ray.io/group"] == "generate"
    assert spread["maxSkew"] == 4
    assert "topologySpreadConstraints" not in rendered("karpenter-pools").head.spec


def test_each_group_may_drain_for_its_own_time(rendered):
    workers = rendered("karpenter-pools").workers
    for name, seconds in {"generate": 110, "train": 90, "judge": 90}.items():
        assert workers[name].env("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") == str(seconds)
        assert workers[name].spec["terminationGracePeriodSeconds"] == seconds + 10


def test_labels_and_scheduler_of_the_users_own(rendered):
    train = rendered("karpenter-pools").workers["train"]
    assert train.labels["cost-center"] == "research"
    assert train.labels["app.kubernetes.io/component"] == "worker"
    assert rendered("on-prem-proxy").head.spec["schedulerName"] == "corp-scheduler"
    assert "schedulerName" not in train.spec


def test_containers_of_the_users_own_are_before_and_beside_ray(rendered):
    pod = rendered("on-prem-proxy").workers["generate"]
    (before,) = pod.spec["initContainers"]
    ray, beside = pod.spec["containers"]
    assert (before["name"], ray["name"], beside["name"]) == ("wait-for-hub", "ray-worker", "logs")  # Ray's is the first
    assert before["resources"]["requests"] == before["resources"]["limits"]  # where none are given
    assert quantity(beside["resources"]["requests"]["cpu"]) == 0.05
    assert beside["securityContext"]["runAsUser"] == 2000
    assert before["securityContext"]["runAsUser"] == 1000
    assert "runAsUser" not in beside
    assert {one["imagePullPolicy"] for one in (before, ray, beside)} == {"IfNotPresent"}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_proxy_is_everybodys_and_spares_what_is_inside(rendered, name):
    some = rendered("on-prem-proxy")
    for pod in (some.head, *some.workers.values()):
        assert pod.env(name) == "http://proxy.corp.example:3128"
        spared = pod.env("NO_PROXY").split(",")
        assert {"localhost", ".svc", ".cluster.local", "169.254.169.254", "10.0.0.0/8"} <= set(spared)
        assert pod.env("HTTP_PROXY") is None
    assert rendered().head.env("NO_PROXY") is None


def test_a_toleration_of_many_seconds_stays_a_number(rendered):
    given = json.dumps([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1209600}])
    pod = rendered(None, "--set-json", f"workerGroups.judge.tolerations={given}").workers["judge"]
    assert pod.spec["tolerations"][0]["tolerationSeconds"] == 1209600
