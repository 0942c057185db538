"""Submitting to a real Ray head on loopback, with token authentication, by the commands that people type."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml

from masters.data.storage import Storage

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

BIN = Path(sys.executable).parent
TOKEN = "a-token-that-must-not-be-found-anywhere-0123456789"


@dataclass(frozen=True)
class Head:
    """A running head: where its dashboard is, and where it writes."""

    address: str
    folder: Path

    def masters(self, *arguments, token=TOKEN):
        """Run the command as somebody on another machine would."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "VLLM_"))}
        environment = {**mine, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "COLUMNS": "200"}
        command = [str(BIN / "masters"), *map(str, arguments), "--address", self.address]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.fixture(scope="module")
def head():
    port, dashboard, agent = _free_ports(3)
    folder = Path(tempfile.mkdtemp(prefix="head-"))  # sockets lie below it: pytest's own folders are too deep
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1", "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip
    command = [BIN / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
               f"--dashboard-port={dashboard}", "--num-cpus=2", f"--temp-dir={folder}", "--object-store-memory=100000000",
               f"--dashboard-agent-listen-port={agent}", "--labels=ray.io/node-group=judge", "--disable-usage-stats"]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    found = Head(f"http://127.0.0.1:{dashboard}", folder)
    try:
        _wait_for(found.address, process)
        yield found
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count):
    """The agent's too: by default it is the same for every cluster of a machine, and only one of them takes jobs."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def _wait_for(address, process):
    """Until the head takes a job: its dashboard answers some seconds before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            if requests.post(f"{address}/api/jobs/", headers=headers, json={"entrypoint": "true"}, timeout=30).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.5)
    raise AssertionError("the head took no job")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, trained):
    student, teacher = trained
    folder = tmp_path_factory.mktemp("submitted")
    data = {
        "student": {"path": str(student)},
        "curriculum": [{"alias": "big", "path": str(teacher)}],
        "prepare": {"sources": [{"type": "charts"}]},
        "storage": str(folder / "runs"),
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(data))
    return folder / "mine.yaml"


@pytest.fixture(scope="module")
def submitted(head, recipe):
    done = head.masters("submit", recipe, "--stage", "mask", "--set", "curriculum[0].mask_step=0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, re.search(r"job (raysubmit_\w+)", done.stdout).group(1)


def test_a_stage_runs_on_the_cluster_and_is_followed_to_its_end(submitted, recipe):
    printed, job = submitted
    assert f"uploaded {recipe.stat().st_size:,} bytes" in printed
    assert re.search(r"mask +big \d+ matrices at 0\.20 0\.10 0\.00", printed)
    assert printed.splitlines()[-1] == f"{job}: succeeded"
    run = Storage(str(recipe.parent / "runs" / "mine"))
    assert run.read_json("thresholds/big.json")["ratios"] == ["0.20", "0.10", "0.00"]


def test_status_tells_of_jobs_and_nodes(head, submitted):
    _, job = submitted
    everything = head.masters("status").stdout
    assert re.search(rf"^{job} +SUCCEEDED +\d+ min +mine$", everything, re.M)
    assert "nodes    judge 1" in everything
    assert "matrices" in head.masters("status", job).stdout
    assert "matrices" in head.masters("logs", job).stdout


def test_the_token_is_nowhere(head, submitted):
    _, job = submitted
    info = requests.get(f"{head.address}/api/jobs/{job}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
    assert set(info.json()["runtime_env"]) <= {"working_dir", "_ray_commit"}
    assert TOKEN not in info.text + head.masters("status", job).stdout + submitted[0]
    logs = [file for file in head.folder.rglob("*") if file.is_file() and file.suffix in (".log", ".out", ".err")]
    assert logs
    assert not [file for file in logs if TOKEN in file.read_text(errors="replace")]


def test_a_wrong_token_is_one_clear_line(head):
    refused = head.masters("status", token="another-token-that-is-not-the-one-of-the-head")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [f"error    {head.address}: the token was not accepted."]


def test_a_job_that_is_left_alone_goes_on_and_can_be_stopped(head, recipe):
    left = head.masters("submit", recipe, "--no-wait", "--set", "prepare.sources[0].train_images=500000")
    job = re.search(r"job (raysubmit_\w+)", left.stdout).group(1)
    assert f"masters logs {job} --follow --address {head.address}" in left.stdout
    assert head.masters("stop", job).stdout == f"{job}: stopped\n"
    ended = head.masters("logs", job, "--follow")
    assert (ended.returncode, f"{job}: stopped" in ended.stderr) == (1, True)
    assert head.masters("stop", job).stdout == f"{job}: had ended before\n"


def test_mistakes_are_said_before_anything_is_uploaded(head, recipe, submitted):
    before = head.masters("status").stdout.count("raysubmit_")
    relative = head.masters("submit", recipe, "--set", "storage=runs")
    assert "on a cluster a path must be absolute" in relative.stderr
    wrong = head.masters("submit", recipe, "--set", "train.lr=-1")
    assert "train.lr = -1" in wrong.stderr
    stage = head.masters("submit", recipe, "--stage", "training")
    assert "--stage training: no such stage" in stage.stderr
    assert "knows no such job" in head.masters("logs", "raysubmit_none").stderr
    assert head.masters("status").stdout.count("raysubmit_") == before
