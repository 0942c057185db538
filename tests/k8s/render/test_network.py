"""The rendered NetworkPolicy, evaluated: who reaches which port of the cluster's pods, and what they reach."""

import re
from ipaddress import ip_address, ip_network

import pytest

from masters.cluster.rayjob import Limits, manifests
from tests.k8s.render.pods import rays_pods
from tests.k8s.tools import ROOT

HERE = "masters"
RAY = {"ray.io/is-ray-node": "yes", "app.kubernetes.io/instance": "lab"}
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}  # by its chart and by kustomize alike
PEERS = {
    "a worker": (HERE, {**RAY, "ray.io/cluster": "lab"}),
    "a worker of a RayJob": (HERE, {**RAY, "ray.io/cluster": "mine-x7k2p"}),
    "a worker of another release": (HERE, {**RAY, "app.kubernetes.io/instance": "other"}),
    "a pod of another cluster": (HERE, {"ray.io/is-ray-node": "yes", "ray.io/cluster": "other"}),
    "any pod of the namespace": (HERE, {"app": "shell"}),
    "the helm test": (HERE, {"app.kubernetes.io/instance": "lab", "app.kubernetes.io/component": "client"}),
    "a client of another release": (HERE, {"app.kubernetes.io/instance": "x", "app.kubernetes.io/component": "client"}),
    "the operator": ("kuberay-system", {**OPERATOR, "app.kubernetes.io/name": "kuberay-operator"}),
    "the operator by kustomize": ("kuberay-system", {**OPERATOR, "app.kubernetes.io/name": "kuberay"}),
    "a pod beside the operator": ("kuberay-system", {"app": "shell"}),
    "a false operator": ("default", OPERATOR),
    "a false worker": ("default", RAY),
    "prometheus": ("monitoring", {"app": "prometheus"}),
}
EVERY = {6379, 8265, 10001, 8080, 44217, 44227, 52365, 31337}
ALLOWED = {
    "a worker": EVERY,
    "a worker of a RayJob": EVERY,
    "the helm test": {8265},
    "the operator": {8265, 52365},
    "the operator by kustomize": {8265, 52365},
    "prometheus": {8080, 44217, 44227},
}


def selects(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def matches(peer: dict, namespace: str, labels: dict) -> bool:
    """One entry of from or to, for a pod."""
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}):
            return False
    elif namespace != HERE:
        return False
    return selects(peer.get("podSelector", {}), labels)


def opened(rule: dict, port: int) -> bool:
    return "ports" not in rule or port in [one["port"] for one in rule["ports"] if one["protocol"] == "TCP"]


def reaches(policy: dict, namespace: str, labels: dict, port: int) -> bool:
    return any(
        opened(rule, port) and ("from" not in rule or any(matches(one, namespace, labels) for one in rule["from"]))
        for rule in policy["spec"]["ingress"]
    )


def leaves(policy: dict, address: str, port: int) -> bool:
    """Whether a pod of the cluster may connect to an address that is no pod."""
    for rule in policy["spec"]["egress"]:
        blocks = [one["ipBlock"]["cidr"] for one in rule.get("to", []) if "ipBlock" in one]
        if opened(rule, port) and ("to" not in rule or any(ip_address(address) in ip_network(b) for b in blocks)):
            return True
    return False


@pytest.mark.parametrize("who", PEERS)
def test_who_reaches_what(rendered, who):
    (policy,) = rendered().of("NetworkPolicy")
    assert {port for port in EVERY if reaches(policy, *PEERS[who], port)} == ALLOWED.get(who, set())


def test_the_policy_is_about_head_and_workers_both_ways(scenario):
    (policy,) = scenario.of("NetworkPolicy")
    of = policy["spec"]["podSelector"]
    assert of.keys() == {"matchLabels"}
    assert all(selects(of, labels) for labels in rays_pods(scenario.cluster["spec"], "lab"))
    assert not any(selects(of, pod["metadata"]["labels"]) for pod in scenario.of("Pod"))  # a client
    assert not selects(of, PEERS["a worker of another release"][1])
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_policy_budgets_and_monitors_are_about_the_clusters_of_rayjobs_too(rendered):
    some = rendered("gke")
    (job,) = manifests(some.cluster, "", "mine", "true", Limits())
    pods = list(rays_pods(job["spec"]["rayClusterSpec"], "mine-x7k2p"))
    (policy,) = some.of("NetworkPolicy")
    assert all(selects(policy["spec"]["podSelector"], labels) for labels in pods)
    assert all(reaches(policy, HERE, labels, 6379) for labels in pods)
    budgets = {one["spec"]["selector"]["matchLabels"]["ray.io/group"]: one for one in some.of("PodDisruptionBudget")}
    monitors = {one["spec"]["selector"]["matchLabels"]["ray.io/node-type"]: one for one in some.of("PodMonitor")}
    for labels in pods:
        assert selects(monitors[labels["ray.io/node-type"]]["spec"]["selector"], labels)
        if labels["ray.io/group"] in ("headgroup", "train"):
            assert selects(budgets[labels["ray.io/group"]]["spec"]["selector"], labels)


def test_namespaces_and_clients_are_values(rendered):
    (policy,) = rendered("no-operator").of("NetworkPolicy")
    assert reaches(policy, "ray-system", OPERATOR, 8265)
    assert not reaches(policy, *PEERS["the operator"], 8265)
    assert not reaches(policy, *PEERS["prometheus"], 8080)
    assert reaches(policy, "notebooks", {}, 8265)
    assert not reaches(policy, "notebooks", {}, 6379)


def test_an_operator_of_the_release_is_in_its_namespace(rendered):
    (policy,) = rendered("with-operator").of("NetworkPolicy")
    assert reaches(policy, HERE, OPERATOR, 8265)
    assert not reaches(policy, *PEERS["the operator"], 8265)


@pytest.mark.parametrize(
    ("given", "address", "port", "may"),
    [
        ("gke", "203.0.113.5", 443, True),
        ("gke", "10.0.0.1", 6443, True),
        ("gke", "203.0.113.5", 22, False),
        ("gke", "203.0.113.5", 80, False),
        ("gke", "169.254.169.254", 80, True),
        ("eks", "169.254.170.23", 80, True),
        ("eks", "169.254.169.254", 80, False),  # the node's own identity
        ("minimal", "169.254.169.254", 80, False),
        ("minimal", "10.0.0.7", 6379, False),
        ("gcs-ft", "10.0.0.7", 6379, True),
        ("s3", "10.0.0.8", 9000, False),
        ("http://minio.minio:9000", "10.0.0.8", 9000, True),
        ("http://minio.minio:9000", "10.0.0.8", 80, False),
        ("http://minio.minio", "10.0.0.8", 80, True),
        ("https://minio.minio:9443/a:1", "10.0.0.8", 9443, True),
        ("gke", "10.0.0.10", 5353, True),  # pods that answer for names, behind the Service's 53
        ("gke", "10.0.0.10", 8053, True),
        ("on-prem-proxy", "10.0.0.10", 8053, False),  # its values name 5353 alone
        ("on-prem-proxy", "10.0.0.1", 6443, True),
        ("on-prem-proxy", "203.0.113.5", 443, True),  # though apiServerPorts does not name it
        ("on-prem-proxy", "203.0.113.9", 3128, True),  # the proxy
        ("gke", "203.0.113.9", 3128, False),
        ("on-prem-proxy", "10.20.3.4", 31337, True),  # a pod of the gang, by its node's address
        ("on-prem-proxy", "10.21.3.4", 31337, False),
    ],
)
def test_what_the_cluster_reaches(rendered, given, address, port, may):
    """Of a scenario, or of a store at an endpoint."""
    some = rendered("s3", "--set", f"storage.s3.endpoint={given}") if "://" in given else rendered(given)
    (policy,) = some.of("NetworkPolicy")
    assert leaves(policy, address, port) is may


def test_names_can_be_resolved(scenario):
    (policy,) = scenario.of("NetworkPolicy")
    ports = [one for rule in policy["spec"]["egress"] if "to" not in rule for one in rule["ports"]]
    (udp, *_) = found = [one["port"] for one in ports if one["protocol"] == "UDP"]
    assert udp in (53, 5353)
    assert all({"port": port, "protocol": "TCP"} in ports for port in found)


def test_pods_on_their_nodes_network_reach_every_port_of_the_head(rendered):
    (policy,) = rendered("on-prem-proxy").of("NetworkPolicy")
    nodes = [rule for rule in policy["spec"]["ingress"] if {"ipBlock": {"cidr": "10.20.0.0/16"}} in rule["from"]]
    assert all(opened(rule, port) for rule in nodes for port in EVERY)
    assert len(nodes) == 1


def test_the_readme_says_what_is_open_to_whom():
    """The table of its page on trust names every port that the policy opens to somebody, and nobody else's."""
    text = (ROOT / "k8s" / "docs" / "trust.md").read_text()
    (table,) = re.findall(r"\| who \| reaches \|.*?\n\n", text, re.DOTALL)
    named = {int(port) for port in re.findall(r"\b\d{4,5}\b", table)}
    assert named == set.union(*(ALLOWED[who] for who in ALLOWED if ALLOWED[who] != EVERY))


def test_the_policy_can_be_left_out(rendered):
    assert not rendered(None, "--set", "networkPolicy.enabled=false").of("NetworkPolicy")
