"""`masters submit` and its sisters against Ray's own job server: a head of this test's own, with a token, on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOKEN, PLANTED = "f00dfeedf00dfeedf00dfeedf00dfeed", "hf_thisIsPlantedAndMustNotLeak"
RECIPE = """
name: my-run
student: {path: a/student}
curriculum: [{alias: big, path: a/teacher}]
prepare: {sources: [{type: charts}]}
"""
# Stands for ray_jobs.pipeline on the cluster, and takes no time; the stages' own modules are the real ones.
STUB = """
import os, sys, time
print("2026-01-01 10:00:00,123 INFO worker.py:1 -- a line of Ray's")
print("prepare   2 400 train samples  2 s")
print("ARGUMENTS", sys.argv[1:], sorted(os.listdir(".")))
print("generate  12/40 questions  3.0/s", flush=True)
if "seed=13" in sys.argv:
    raise SystemExit("no luck")
if "seed=99" in sys.argv:
    time.sleep(300)
"""

pytestmark = pytest.mark.engine


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def head():
    """The address of a Ray head that this test starts and ends by its own handle."""
    home = Path(tempfile.mkdtemp(prefix="mh", dir="/tmp"))  # short: sockets lie in it
    (home / "stub" / "ray_jobs").mkdir(parents=True)
    (home / "stub" / "ray_jobs" / "__init__.py").write_text(f"__path__ += [{str(ROOT / 'ray_jobs')!r}]")
    (home / "stub" / "ray_jobs" / "pipeline.py").write_text(STUB)
    environment = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HF_TOKEN": PLANTED, "HOME": str(home),
        "PYTHONPATH": f"{home}/stub", "RAY_TMPDIR": str(home), "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    port = free_port()
    options = {
        "port": free_port(), "dashboard-host": "127.0.0.1", "dashboard-port": port, "node-ip-address": "127.0.0.1", "num-cpus": 1,
        "dashboard-agent-listen-port": free_port(), "dashboard-agent-grpc-port": free_port(), "metrics-export-port": free_port(),
        "ray-client-server-port": free_port(), "object-store-memory": 80_000_000, "temp-dir": home / "ray", "disable-usage-stats": "",
    }  # fmt: skip
    command = [f"--{name}={value}" if value != "" else f"--{name}" for name, value in options.items()]
    with open(home / "head.log", "w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "ray", "start", "--head", "--block", *command],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}", process, home / "head.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until the head takes a job: its agent comes up some seconds after its dashboard."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            call(address, "/api/jobs/", b'{"entrypoint": "true"}')
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def call(address: str, path: str, body: bytes | None = None) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(address + path, headers=headers, data=body)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "my recipe.yaml"
    path.write_text(RECIPE)
    (tmp_path / "private.txt").write_text("not to be uploaded")
    return path


@pytest.fixture
def start(tmp_path):
    """start(arguments, **environment) -> a process of the command, with none of Ray's environment but what is given."""

    started = []

    def start(*arguments: object, **environment: str) -> subprocess.Popen:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        code = (  # a shell that starts the tests in the background has them ignore SIGINT, and so would this process
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from masters.cli import main; sys.argv[0] = 'masters'; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**inherited, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
        process.stdout.close()


@pytest.fixture
def masters(start):
    def masters(*arguments: object, **environment: str) -> tuple[int, str]:
        process = start(*arguments, **environment)
        printed, _ = process.communicate(timeout=120)
        return process.returncode, printed

    return masters


def job_of(printed: str) -> str:
    return printed.partition("   job ")[2].split()[0]


def test_a_recipe_runs_to_its_end(head, recipe, masters):
    status, said = masters(
        "submit", recipe, "--set", "storage=/somewhere", "--address", head, RAY_AUTH_TOKEN=TOKEN, RAY_ADDRESS="http://127.0.0.1:1"
    )  # fmt: skip
    assert status == 0, said
    job = job_of(said)
    assert f"{head}/#/jobs/{job}" in said
    assert "generate  12/40 questions" in said
    assert "ARGUMENTS ['my recipe.yaml', 'storage=/somewhere'] ['my recipe.yaml']" in said
    assert "a line of Ray's" not in said
    assert said.count("2 400 train samples") == 1
    assert said.rstrip().endswith(f"{job}  SUCCEEDED")

    record = json.loads(call(head, f"/api/jobs/{job}"))
    assert record["entrypoint"] == "python -m ray_jobs.pipeline 'my recipe.yaml' storage=/somewhere"
    assert set(record["runtime_env"]) <= {"working_dir", "_ray_commit"}
    listed = call(head, "/api/jobs/")
    printed = call(head, f"/api/jobs/{job}/logs")
    for secret in (TOKEN, PLANTED):
        for place in (said, listed, printed, json.dumps(record)):
            assert secret not in place

    status, said = masters("status", job, "--address", head, "--price", "head=360000", RAY_AUTH_TOKEN=TOKEN)
    assert status == 0, said
    assert "SUCCEEDED" in said
    assert 100 < float(re.search(r"^cost +\$([0-9.]+) so far: head", said, re.M)[1]) < 100 * 600  # $100 a second
    assert "prepare   2 400 train samples  2 s\ngenerate  12/40 questions  3.0/s\nnodes     head 1 up" in said


def test_a_real_stage_runs_on_the_cluster(head, masters, trained, tmp_path):
    student, teacher = map(str, trained)
    data = {
        "storage": str(tmp_path / "runs"), "student": {"path": student}, "prepare": {"sources": [{"type": "charts"}]},
        "curriculum": [{"alias": "big", "path": teacher, "mask_step": 0.1}],
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(data))
    status, said = masters("submit", tmp_path / "mine.yaml", "--stage", "mask", "--address", head, RAY_AUTH_TOKEN=TOKEN)
    assert status == 0, said
    assert re.search(r"^mask +big \d+ matrices at 0\.20 0\.10 0\.00", said, re.M)
    made = json.loads((tmp_path / "runs" / "mine" / "thresholds" / "big.json").read_text())
    assert made["ratios"] == ["0.20", "0.10", "0.00"]


def test_a_job_that_fails_ends_with_its_last_lines(head, recipe, masters):
    status, said = masters(
        "submit", recipe, "--set", "storage=/s", "--set", "seed=13", "--address", head, RAY_AUTH_TOKEN=TOKEN
    )  # fmt: skip
    assert status == 1
    assert "no luck" in said
    assert "FAILED" in said.splitlines()[-1]


def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(head, recipe, start, masters, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    process = start(
        "submit", recipe, "--set", "storage=/s", "--set", "seed=99", "--address", head, RAY_AUTH_TOKEN_PATH=str(token)
    )  # fmt: skip
    said = ""
    while "generate  12/40" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    job = job_of(said)
    assert process.returncode == 130
    assert (
        f"Again: masters status {job} --address {head} · masters logs {job} -f --address {head} · masters stop {job}"
        in rest
    )
    assert json.loads(call(head, f"/api/jobs/{job}"))["status"] == "RUNNING"

    status, said = masters("stop", job, "--address", head, RAY_AUTH_TOKEN_PATH=str(token))
    assert (status, said.splitlines()[0]) == (0, f"{job}  STOPPED")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RAY_AUTH_TOKEN": "0badbadbadbadbadbadbadbadbadbad0"}, "the cluster refuses the token from RAY_AUTH_TOKEN"),
        ({}, "the cluster wants a token, and there is none here. Set RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "token"}, "the cluster wants a token, and there is none here. Set RAY_AUTH_TOKEN"),
    ],
)
def test_a_token_that_is_wrong_or_missing_is_one_line(head, recipe, masters, environment, words):
    status, said = masters("submit", recipe, "--set", "storage=/s", "--address", head, **environment)
    assert status == 1
    assert len(said.strip().splitlines()) == 1, said
    assert words in said
    assert all(secret not in said for secret in environment.values() if len(secret) > 20)
