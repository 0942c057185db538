"""The driver dies by SIGKILL in the middle of generate and in the middle of train, then a worker of the gang that the next
command has brought back; that command ends the run.

Everything that it leaves is compared with the undisturbed run: the same tables byte for byte, the same loss log, the same
student.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from masters.data.manifests import read_manifest
from masters.data.metrics import computed, read_metrics
from masters.data.storage import Storage
from tests.stages.conftest import MASTERS, environment

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


def kill_when(condition, recipe, storage, seconds=300, command="run", options=()):
    """Start the command; SIGKILL it, and only it, as soon as the condition holds."""
    driver = start_until(condition, recipe, storage, seconds, command, options)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    return _processes_of(driver.pid)


def start_until(condition, recipe, storage, seconds=300, command="run", options=()):
    """Start the command; it goes on when the condition holds."""
    promptly = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"
    }  # else a tiny gang is done before its checkpoints are on record
    driver = subprocess.Popen(
        [MASTERS, command, recipe, "--set", f"storage={storage}", *options],
        env=environment() | promptly,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
    return driver


def gang_of(driver: int) -> list[int]:
    """Processes of the training workers that the driver's Ray has started."""
    found = []
    for process in (p for p in Path("/proc").iterdir() if p.name.isdigit()):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if b"RayTrainWorker" in (process / "cmdline").read_bytes() and _mentions(Path("/proc", parent), driver):
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def _processes_of(driver: int) -> list[int]:
    """Ray processes that still belong to the driver's session some seconds later."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        left = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _mentions(p, driver)]
        if not left:
            return []
        time.sleep(0.5)
    return left


def _mentions(process: Path, driver: int) -> bool:
    """Ray's session directory carries the driver's process id: in the command, or, of workers with a title, in open logs.

    A node's agents look for their parent once in a while only; they write nothing of a run.
    """
    try:
        command = (process / "cmdline").read_bytes().replace(b"\0", b"/").decode(errors="replace")
        places = [command, *(os.readlink(opened) for opened in (process / "fd").iterdir())]
    except OSError:
        return False
    return any(f"_{driver}/" in place for place in places) and not command.startswith(
        ("ray::Dashboard", "ray::RuntimeEnv")
    )


def checkpointed_steps(run):
    """Steps after which Ray Train has a checkpoint on record. The log is written just before; Ray writes the record in place."""
    record = "train/checkpoints/checkpoint_manager_snapshot.json"
    text = run.read(record) if run.exists(record) else b""
    return [r["metrics"]["step"] for r in json.loads(text)["checkpoint_results"]] if text.endswith(b"}") else []


def written_steps(run):
    """The last step whose log is written; the checkpoint before that step's is then on record, since each waits for the last."""
    return max((int(name.rpartition("/")[2].partition("-")[0]) for name in run.names("train/rewards")), default=0)


@pytest.fixture(scope="module")
def killed(finished, tmp_path_factory):
    """(run directory, what the last command printed, what was there at each kill)."""
    storage = tmp_path_factory.mktemp("killed")
    run, seen = Storage(str(storage / "small")), {}
    total = len(finished.run.names("responses", ".parquet"))

    def in_generate():
        return 3 <= len(run.names("responses", ".parquet")) < total

    assert kill_when(in_generate, finished.recipe, storage) == []
    seen["shards"] = {name: run.read(name) for name in run.names("responses", ".parquet")}

    def in_train():
        return written_steps(run) >= 10

    assert kill_when(in_train, finished.recipe, storage) == []
    seen["steps"] = max(checkpointed_steps(run))
    seen["student"] = run.names("train/student")
    wanted = max(seen["steps"] + 10, written_steps(run) + 5)  # what lies there of the attempt that died is no news

    def further():
        return written_steps(run) >= wanted

    driver, gang = start_until(further, finished.recipe, storage), []
    while len(gang) < 2:  # a process that changes its title has none for a moment
        assert driver.poll() is None, driver.stdout.read()
        gang = gang_of(driver.pid)
    os.kill(gang[0], signal.SIGKILL)
    seen["gang"], printed = gang, driver.communicate(timeout=300)[0]
    assert driver.returncode == 0, printed
    return run, printed, seen


def test_it_was_killed_in_the_middle(finished, killed):
    _, printed, seen = killed
    assert 0 < len(seen["shards"]) < len(finished.run.names("responses", ".parquet"))
    assert 0 < seen["steps"] < len(read_metrics(finished.run))
    assert seen["student"] == []
    assert len(seen["gang"]) == 2
    assert "prepare   done" in printed
    assert "train     continuing where it stopped" in printed


def test_committed_shards_never_change(killed):
    run, _, seen = killed
    assert all(run.read(name) == content for name, content in seen["shards"].items())


@pytest.mark.parametrize(
    "folder",
    [
        "samples",
        "images",
        "thresholds",
        "responses",
        "verdicts",
        "train/rewards",
        "train/levels",
        "train/student",
        "evaluation",
    ],
)
def test_the_same_files_byte_for_byte(finished, killed, folder):
    run = killed[0]
    names = finished.run.names(folder)
    assert run.names(folder) == names
    assert names
    for name in names:
        assert run.read(name) == finished.run.read(name), name


def test_training_resumed_from_its_checkpoint_with_the_same_loss_log(finished, killed):
    run, printed, seen = killed
    assert computed(read_metrics(run)) == computed(read_metrics(finished.run))
    first, second = (int(line.split()[-1]) for line in printed.splitlines() if "continues behind step" in line)
    assert first == seen["steps"] < second
    assert "continues behind" not in finished.printed


def test_every_stage_is_done_once(killed):
    run = killed[0]
    assert all(
        read_manifest(run, stage).status == "done" for stage in ("prepare", "generate", "score", "train", "evaluate")
    )
    assert run.names("failures") == []
    assert os.path.isdir(f"{run.local_path}/logs")
