"""An upgrade keeps what the autoscaler wrote: replicas of the groups and the workers it wants gone."""

import copy

import pytest

from tests.k8s import chart as charts
from tests.k8s.render.api import serving
from tests.k8s.render.pods import Rendered


@pytest.fixture
def upgrade(chart, rendered, tmp_path):
    """upgrade({group: replicas}, options...) -> what Helm would apply over a cluster that was scaled so."""

    def over(scaled: dict[str, int], *options: str) -> Rendered:
        live = copy.deepcopy(rendered().cluster)
        owner = {"meta.helm.sh/release-name": "lab", "meta.helm.sh/release-namespace": "masters"}
        live["metadata"] |= {"namespace": "masters", "annotations": owner}
        for group in live["spec"]["workerGroupSpecs"]:
            if group["groupName"] in scaled:
                group["replicas"] = scaled[group["groupName"]]
                group["scaleStrategy"] = {"workersToDelete": ["lab-generate-worker-x"]}
        with serving(live, tmp_path) as kubeconfig:
            return Rendered(
                charts.template(
                    chart, "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", kubeconfig, *options
                )
            )

    return over


def replicas(some: Rendered) -> dict[str, int]:
    return {name: group["replicas"] for name, group in some.groups.items()}


def test_an_upgrade_scales_nothing(upgrade):
    some = upgrade({"generate": 3, "train": 2})
    assert replicas(some) == {"generate": 3, "judge": 0, "train": 2}
    assert some.groups["generate"]["scaleStrategy"] == {"workersToDelete": ["lab-generate-worker-x"]}
    assert "scaleStrategy" not in some.groups["judge"]


def test_new_limits_hold(upgrade):
    options = ("--set", "workerGroups.generate.maxReplicas=2,workerGroups.judge.minReplicas=1")
    assert replicas(upgrade({"generate": 3}, *options)) == {"generate": 2, "judge": 1, "train": 0}


def test_a_new_group_starts_at_its_least(upgrade):
    options = ("--set", "workerGroups.generate-ondemand.enabled=true")
    assert replicas(upgrade({"generate": 3}, *options))["generate-ondemand"] == 0


def test_without_autoscaling_the_values_rule(upgrade):
    options = ("--values", str(charts.CHART / "ci" / "kueue-fixed.yaml"))
    assert replicas(upgrade({"judge": 3}, *options)) == {"generate": 4, "judge": 1, "train": 2}
