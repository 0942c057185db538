"""The rendered cluster as Ray's own autoscaler reads it: what a pod of each group will offer."""

import copy
import os
import subprocess
import sys

import pytest

GIB = 2**30


@pytest.fixture
def read(rendered):
    """read(scenario) -> {group: node type} by the function that the autoscaler's container runs."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    def derive(scenario: str | None) -> dict:
        cluster = copy.deepcopy(rendered(scenario).cluster)
        cluster["metadata"]["namespace"] = "masters"
        return _derive_autoscaling_config_from_ray_cr(cluster)

    return derive


def test_the_head_offers_no_cpu(read):
    head = read("gke")["available_node_types"]["headgroup"]
    assert head["resources"]["CPU"] == 0
    assert "GPU" not in head["resources"]


def test_groups_offer_what_the_values_say(read):
    types = read("gke")["available_node_types"]
    train, generate, judge = (types[name] for name in ("train", "generate", "judge"))
    assert train["resources"] == {"CPU": 90, "GPU": 8, "memory": 600 * GIB}
    assert generate["resources"] == {"CPU": 7, "GPU": 1, "memory": 56 * GIB}
    assert judge["resources"] == {"CPU": 4, "memory": 16 * GIB}
    assert (generate["min_workers"], generate["max_workers"]) == (0, 16)
    assert generate["idle_timeout_s"] == 300
    assert generate["priority"] > types["generate-ondemand"]["priority"]


def test_groups_are_found_by_label(read):
    types = read("gke")["available_node_types"]
    for name, wanted in {
        "generate": {"ray.io/node-group": "generate", "ray.io/market-type": "spot"},
        "generate-ondemand": {"ray.io/node-group": "generate", "ray.io/market-type": "on-demand"},
        "train": {"ray.io/node-group": "train", "ray.io/accelerator-type": "A100"},
    }.items():
        assert wanted.items() <= types[name]["labels"].items(), name


def test_the_cluster_scales_at_once_and_waits_before_it_shrinks(read):
    config = read(None)
    assert config["upscaling_speed"] == 1000  # no limit: a gang comes at once
    assert config["idle_timeout_minutes"] == 2


def test_a_group_that_does_not_come_is_given_up_and_pods_that_nobody_needs_go(rendered):
    """The variables as Ray reads them, when it is imported in the autoscaler's container."""
    options = rendered(None, "--set", "autoscaling.pendingIdleTimeoutSeconds=77").cluster["spec"]["autoscalerOptions"]
    source = (
        "from ray.autoscaler._private.constants import RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S as idle;"
        "from ray.autoscaler.v2.instance_manager.config import InstanceReconcileConfig as config;"
        "print(config().allocate_status_timeout_s, idle)"
    )
    environment = os.environ | {one["name"]: one["value"] for one in options["env"]}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["900", "77"]
