"""How soon Kubernetes gives up a head whose node is gone, and how long the operator waits for it."""

import json

import pytest
import yaml

from tests.k8s import chart as charts

LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
PATIENCE = "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS"


def seconds(pod) -> dict[str, int | None]:
    """Taint of a node that is gone -> how long the pod stays there; 300 s where it does not say, as the API server fills in."""
    found: dict[str, int | None] = {}
    for taint in LOST:
        own = [
            one
            for one in pod.spec.get("tolerations", [])
            if one.get("key") in (None, taint) and one.get("effect") in (None, "NoExecute")
        ]
        given = [one["tolerationSeconds"] for one in own if "tolerationSeconds" in one]
        found[taint] = min(given) if given else None if own else 300
    return found


def test_the_head_is_given_up_after_half_a_minute_and_workers_as_ever(scenario):
    assert seconds(scenario.head) == dict.fromkeys(LOST, 30)
    for pod in scenario.workers.values():
        assert set(seconds(pod).values()) == {300}, pod.name
    for pod in scenario.of("Pod"):
        assert not any(one.get("key") in LOST for one in pod["spec"].get("tolerations", []))


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ([{"key": LOST[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 120}], [30, 120]),
        ([{"key": LOST[0], "operator": "Exists", "tolerationSeconds": 240, "effect": "NoExecute"}], [240, 30]),
        ([{"key": LOST[0], "operator": "Exists"}, {"key": LOST[1], "operator": "Exists"}], [None, None]),
        ([{"operator": "Exists"}], [None, None]),
        ([{"operator": "Exists", "effect": "NoSchedule"}], [30, 30]),
        ([{"key": "pool", "operator": "Equal", "value": "head", "effect": "NoExecute"}], [30, 30]),
    ],
)
def test_a_toleration_of_the_users_own_is_instead(rendered, own, wanted):
    head = rendered("gke", "--set-json", f"head.tolerations={json.dumps(own)}").head
    assert list(seconds(head).values()) == wanted
    assert all(one in head.spec["tolerations"] for one in own)


def test_the_operator_that_comes_with_the_chart_waits_longer_than_a_node_takes():
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    (value,) = [one["value"] for one in values["kuberay-operator"]["env"] if one["name"] == PATIENCE]
    assert isinstance(value, str)  # a number would be refused by the API server
    assert int(value) >= 3600


def test_the_notes_say_how_to_read_the_patience_of_another(chart):
    def notes(*options: object) -> str:
        printed = charts.helm("install", "lab", chart, "--namespace", "team", "--dry-run=client", *options)
        return printed.split("\nNOTES:\n")[1]

    line = f"""kubectl -n ray-system get pods -l app.kubernetes.io/component=kuberay-operator -o jsonpath='{{.items[*].spec.containers[*].env[?(@.name=="{PATIENCE}")].value}}'"""
    assert line in notes("--values", charts.CHART / "ci" / "no-operator.yaml")
    assert PATIENCE not in notes("--values", charts.CHART / "ci" / "with-operator.yaml")
