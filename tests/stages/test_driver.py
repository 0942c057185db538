"""The driver on a cluster of several nodes, and what it does when it is told to stop. Real Ray; no models."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.stages.conftest import environment

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

START = "from masters.stages.cluster import connect, disconnect; import signal, time; connect(); "
WAIT = (
    START
    + """
import ray
print("gcs", ray.get_runtime_context().gcs_address)
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
finally:
    disconnect()
"""
)
TRAIN = (
    START
    + """
from masters.stages.train import fit
import ray.train
from ray.train.torch import TorchTrainer

def loop():
    print("ready", flush=True)
    time.sleep(60)

try:
    fit(TorchTrainer(loop, scaling_config=ray.train.ScalingConfig(num_workers=1),
                     run_config=ray.train.RunConfig(name="x", storage_path=STORAGE)))
except KeyboardInterrupt:
    print("interrupted")
print("as before" if signal.getsignal(signal.SIGINT) is signal.default_int_handler else "another handler")
disconnect()
"""
)
QUEUE = """
import ray
from ray.cluster_utils import Cluster
from masters.reporting.progress import Screen, Tracker
from masters.stages import train

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
for _ in range(2):
    cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)
from ray.util.state import list_actors
for _ in range(6):
    with train._progress_queue(Screen(), Tracker(1, "steps", 0, lambda _: None)) as report:
        report(1, "", {})
        (alive,) = [a for a in list_actors(detail=True) if a.class_name == "_QueueActor" and a.state == "ALIVE"]
        assert alive.node_id == ray.get_runtime_context().get_node_id(), "the queue is on another node"
print("on the driver's node")
ray.shutdown()
cluster.shutdown()
"""


def start(code: str, **variables: str) -> "subprocess.Popen[str]":
    # A shell that starts the tests in the background has them ignore SIGINT, and so would this process.
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"]
    return subprocess.Popen(
        command, env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def tell(number: int, code: str, **variables: str) -> str:
    """Start a driver, send it a signal when it is ready, and wait: what it printed."""
    driver, printed = start(code, **variables), []
    for line in driver.stdout:
        printed.append(line)
        if "ready" in line:
            break
    time.sleep(1)
    driver.send_signal(number)
    printed.append(driver.communicate(timeout=60)[0])
    assert driver.returncode == 0, "".join(printed)
    return "".join(printed)


def test_sigterm_interrupts_like_ctrl_c_and_no_cluster_is_joined_that_was_not_named():
    """Ray would join the cluster whose address `ray start` left behind."""
    left, folder = "192.0.2.1:6379", tempfile.mkdtemp(prefix="mr", dir="/tmp")  # sockets want a short path
    try:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text(left)
        said = tell(signal.SIGTERM, WAIT, RAY_TMPDIR=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert "interrupted" in said
    assert "gcs " in said
    assert left not in said


@pytest.mark.slow
def test_training_that_is_interrupted_says_so(tmp_path):
    said = tell(signal.SIGINT, TRAIN.replace("STORAGE", repr(str(tmp_path))))
    assert "interrupted" in said
    assert "as before" in said


@pytest.mark.slow
def test_progress_of_training_needs_no_node_but_the_drivers():
    driver = start(QUEUE)
    printed, _ = driver.communicate(timeout=120)
    assert "on the driver's node" in printed, printed
    assert driver.returncode == 0, printed
