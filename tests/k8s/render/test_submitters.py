"""The Role of people who submit: enough for Masters' commands and for RayJobs, and no more."""

import pytest

NEEDED = [
    ("get", "ray.io", "rayclusters", None),
    ("list", "ray.io", "rayclusters", None),
    ("get", "", "secrets", "lab"),
    ("get", "", "services", None),
    ("list", "", "pods", None),
    ("create", "", "pods/portforward", None),
    ("get", "", "pods", None),  # as port-forward asks
    ("get", "ray.io", "rayjobs", None),
    ("list", "ray.io", "rayjobs", None),
    ("watch", "ray.io", "rayjobs", None),  # as `kubectl delete` waits
    ("create", "ray.io", "rayjobs", None),
    ("delete", "ray.io", "rayjobs", None),
    ("patch", "ray.io", "rayjobs", None),
]
KEPT = [
    ("list", "", "secrets", None),
    ("create", "", "configmaps", None),  # a RayJob holds its recipe itself
    ("get", "", "secrets", "hugging-face"),
    ("patch", "ray.io", "rayclusters", None),
    ("create", "ray.io", "rayclusters", None),
    ("delete", "ray.io", "rayclusters", None),
    ("patch", "ray.io", "rayjobs/status", None),
    ("delete", "", "pods", None),
    ("create", "", "pods", None),
    ("create", "", "pods/exec", None),
    ("create", "rbac.authorization.k8s.io", "rolebindings", None),
]


def may(role: dict, verb: str, group: str, resource: str, name: str | None) -> bool:
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in role["rules"]
    )


@pytest.mark.parametrize("asked", NEEDED)
def test_people_who_submit_may(rendered, asked):
    (role,) = rendered("eks-efa").of("Role")
    assert may(role, *asked)


@pytest.mark.parametrize("asked", KEPT)
def test_people_who_submit_may_not(rendered, asked):
    (role,) = rendered("eks-efa").of("Role")
    assert not may(role, *asked)


def test_the_token_is_read_where_it_is(rendered):
    (role,) = rendered("eks-efa", "--set", "auth.existingSecret=ray-token").of("Role")
    assert may(role, "get", "", "secrets", "ray-token")
    assert not may(role, "get", "", "secrets", "lab")


def test_subjects_are_bound_as_rbac_wants_them(rendered):
    (binding,) = rendered("on-prem-proxy").of("RoleBinding")
    (role,) = rendered("on-prem-proxy").of("Role")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "argo-workflow", "namespace": "pipelines"},
        {"kind": "User", "name": "ana@corp.example", "apiGroup": "rbac.authorization.k8s.io"},
    ]
    assert not rendered().of("Role")
