"""Models of a hub on loopback, brought to nodes with caches of their own. Real Ray, the hub's real client; no real models."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.hub import COMMIT, NAME, Hub, weights
from tests.stages.conftest import environment

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]
PINNED, SHARD = f"{NAME}@{COMMIT}", "model-1.safetensors"

DRIVER = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from masters.config.load import validate
from masters.reporting.progress import Screen
from masters.stages import fetch
from masters.stages.fetch import Need, fetch_models

homes, mirror, path = json.loads(sys.argv[1])
config = validate({
    "name": "x", "student": {"path": path}, "curriculum": [{"alias": "t", "path": path}],
    "prepare": {"sources": [{"type": "charts"}]}, "hub_mirror": mirror,
    "resources": {"mask": {"labels": {"place": "here"}}, "train": {"labels": {"place": "here"}, "workers": 2}},
})
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for home, place in zip(homes, ("here", "here", "elsewhere")):  # as many nodes as homes
    cluster.add_node(num_cpus=1, labels={"place": place}, env_vars={"HF_HOME": home})
ray.init(address=cluster.address)
"""
FETCH = """
needs = [Need(path, config.resources.mask), Need(path, config.resources.train)]
for _ in range(2):
    fetch_models("mask", needs, config, Screen())
    print("over", flush=True)
ray.shutdown()
cluster.shutdown()
"""
GANG = """
from pathlib import Path
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

def loop():
    import time
    import torch
    from masters.training.loop import meet
    began = time.monotonic()
    meet(config)
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    if ray.train.get_context().get_world_rank() == 0:
        print(f"met {int(total)} after {time.monotonic() - began:.0f} s", flush=True)

TorchTrainer(
    loop, torch_config=TorchConfig("gloo", timeout_s=3),
    scaling_config=ray.train.ScalingConfig(
        num_workers=2, resources_per_worker={"CPU": 1}, label_selector=config.resources.train.labels
    ),
    run_config=ray.train.RunConfig(name="gang", storage_path=homes[0] + "/gang"),
).fit()
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture
def hub():
    with Hub({"config.json": b"{}", SHARD: weights(1, 4 << 20)}) as hub:
        yield hub


@pytest.fixture
def homes(tmp_path):
    return [str(tmp_path / name) for name in ("first", "second", "third")]


def start(hub, homes, code, mirror=None, path=PINNED):
    """The driver, which sees the hub; its nodes have a cache each."""
    variables = hub.environment(homes[0]) | environment() | {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
    variables |= {"HF_HOME": homes[0] + "-driver", "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-c", DRIVER + code, json.dumps([homes, mirror, path])]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(driver, status=0):
    said, _ = driver.communicate(timeout=240)
    assert driver.returncode == status, said
    return said


def has(home):
    return os.path.exists(f"{home}/hub/models--owner--model/snapshots/{COMMIT}/{SHARD}")


@pytest.mark.parametrize("mirrored", [False, True])
def test_each_node_of_the_group_fetches_once_and_no_other(hub, homes, tmp_path, mirrored):
    said = end(start(hub, homes, FETCH, str(tmp_path / "mirror") if mirrored else None))
    assert [has(home) for home in homes] == [True, True, False]
    assert len(hub.gets(SHARD)) == (1 if mirrored else 2)
    nodes = 1 if mirrored else 2
    assert f"mask      1 models fetched by {nodes} nodes, once each: {nodes * 4} MB" in said
    assert said.count("fetched by") == 1  # the second time nothing is missing and nothing is said
    assert ("is in the mirror: 4 MB written" in said) == mirrored


def test_a_task_that_is_killed_is_done_again(hub, homes):
    hub.seconds = 0.15
    driver, deadline = start(hub, homes[:2], FETCH), time.monotonic() + 120
    while len(hub.gets(SHARD)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    next(process for process in psutil.process_iter() if _fetches(process, homes)).send_signal(signal.SIGKILL)
    end(driver)
    assert [has(home) for home in homes] == [True, True, False]
    assert len(hub.gets(SHARD)) == 3


def _fetches(process, homes):
    try:
        return "_fetch_here" in " ".join(process.cmdline()) and process.environ().get("HF_HOME") in homes
    except psutil.Error:
        return False


def test_a_model_that_the_hub_does_not_have_stops_the_stage(hub, homes):
    said = end(start(hub, homes[:1], FETCH, path=f"owner/none@{COMMIT}"), status=1)
    assert f"owner/none@{COMMIT}: no such folder here, and the hub did not give it" in said


def test_a_gang_waits_for_a_node_that_still_fetches_longer_than_its_timeout(hub, homes):
    subprocess.run(
        [sys.executable, "-c", f"from masters.models.folder import resolve; resolve('{PINNED}', 'HF_TOKEN')"],
        env=hub.environment(homes[0]), check=True, timeout=60,
    )  # fmt: skip
    hub.seconds = 0.15  # 64 pieces: ten seconds, and ranks wait three for each other
    said = end(start(hub, homes[:2], GANG))
    assert "met 2 after" in said
    assert int(said.partition("met 2 after ")[2].split()[0]) >= 8
