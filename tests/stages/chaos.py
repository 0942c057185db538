"""SIGKILLs at random moments over one generate and one score, on two local nodes; the tables must be the undisturbed run's.

    python -m tests.stages.chaos [--kills 20] [--seed 0] [--in-place]

Drivers, engine actors, other workers of Ray and the second node's raylet die. `--in-place` breaks the commit on purpose: a
table is written where it lies, half by half; then this should fail.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masters.data.storage import Storage
from tests.stages.conftest import MASTERS, environment
from tests.stages.data import STAGES, begun, write_recipe

FOLDERS = ("responses", "verdicts")
AGENTS = (
    b"ray::DashboardAgent",
    b"ray::RuntimeEnvAgent",
)  # a raylet ends with its agents, and that of the head is to live
MOST_FAILURES = 10  # of a driver that nobody killed, in one stage
LONGEST = 20.0  # seconds between two kills, at most: about what an engine takes to start on two cores
IN_PLACE = """
import os, sys, time
import pyarrow as pa, pyarrow.parquet as pq
from masters.data import storage

def add_table(self, name, table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    os.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
    with open(self._path(name), "wb", buffering=0) as file:
        file.write(content[: len(content) // 2])
        time.sleep(1)
        file.write(content[len(content) // 2 :])
    return True

storage.Storage.add_table = add_table
"""


class Nodes:
    """A Ray cluster of this process's own: a head, and a second node that can be killed and replaced."""

    def __init__(self, cpus: int = 1):
        from ray.cluster_utils import Cluster

        self._second_node = {"num_cpus": cpus}
        self._cluster = Cluster(True, head_node_args={**self._second_node, "include_dashboard": False})
        self._second = self._cluster.add_node(**self._second_node)
        self.address = self._cluster.address
        self._session = Path(self._cluster.head_node.get_session_dir_path()).name.encode()

    def replace_second(self) -> None:
        """SIGKILL its raylet; another node comes in its place."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(**self._second_node)

    def workers(self, name: bytes) -> list[int]:
        """Worker processes of this cluster whose title holds a name; a raylet's agents are none."""
        found = []
        for process in (p for p in Path("/proc").iterdir() if p.name.isdigit()):
            try:
                title = (process / "cmdline").read_bytes()
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                known = title.startswith(b"ray::") and not title.startswith(AGENTS)
                if known and name in title and self._session in _command(parent):
                    found.append(int(process.name))
            except OSError:
                continue
        return sorted(found)

    def close(self) -> None:
        """End every process of it."""
        self._cluster.shutdown()


def _say(words: str) -> None:
    print(words, flush=True)


def _command(process: str) -> bytes:
    return Path("/proc", process, "cmdline").read_bytes()


class Chaos:
    """Runs the stages, and kills.

    Args:
        recipe: of the run.
        storage: where its run directory goes; the stages before generate are done there.
        kills: how many, at least one of each kind where there are as many.
        seed: of moments and kinds.
    """

    def __init__(self, recipe: Path, storage: Path, kills: int, seed: int):
        self._recipe, self._storage = recipe, storage
        self._random = random.Random(seed)
        kinds = ("actor", "driver", "raylet", "worker")
        self._kinds = [kinds[i % len(kinds)] for i in range(kills)]
        self._random.shuffle(self._kinds)
        self.killed: list[str] = []

    def run(self) -> None:
        """Every stage to its end; each is started again as often as it died."""
        nodes = Nodes()
        try:
            for number, stage in enumerate(STAGES):
                mine = len(self._kinds) if number == len(STAGES) - 1 else -(-3 * len(self._kinds) // 4)
                self._stage(stage, nodes, mine)
        finally:
            nodes.close()

    def _stage(self, stage: str, nodes: Nodes, until: int) -> None:
        failures = 0
        while failures < MOST_FAILURES:
            driver = self._start(stage, nodes)
            try:
                self._disturb(nodes, driver, until)
                printed = driver.communicate(timeout=600)[0]
            finally:
                driver.kill()
            if driver.returncode == 0:
                _say(printed.strip().splitlines()[-1])
                return
            if driver.returncode != -signal.SIGKILL:
                _say(f"{stage} ended with status {driver.returncode}: {printed[-2000:]}")
                failures += 1
        raise AssertionError(f"{stage} failed {failures} times")

    def _disturb(self, nodes: Nodes, driver: subprocess.Popen, until: int) -> None:
        """Kill something now and then, until so many have died or the driver has ended."""
        while driver.poll() is None and len(self.killed) < until:
            moment = time.monotonic() + self._random.uniform(0, LONGEST)
            while time.monotonic() < moment and driver.poll() is None:
                time.sleep(0.02)
            if driver.poll() is None:
                self._kill(self._kinds[len(self.killed)], nodes, driver)

    def _start(self, stage: str, nodes: Nodes) -> subprocess.Popen:
        command = [MASTERS, stage, self._recipe, "--set", f"storage={self._storage}"]
        variables = environment() | {"RAY_ADDRESS": nodes.address}
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _kill(self, kind: str, nodes: Nodes, driver: subprocess.Popen) -> None:
        if kind == "driver":
            driver.kill()
        elif kind == "raylet":
            nodes.replace_second()
        else:
            there = nodes.workers(b"MapWorker" if kind == "actor" else b"")
            if not there:
                return
            os.kill(self._random.choice(there), signal.SIGKILL)
        self.killed.append(kind)
        _say(f"killed {kind:<7} {len(self.killed)}/{len(self._kinds)}")


def rows(run: Storage, folder: str) -> list[dict]:
    """Of every table of a folder, in the order of their keys."""
    found = [
        {"file": name, **row} for name in run.names(folder, ".parquet") for row in run.read_table(name).to_pylist()
    ]
    return sorted(found, key=lambda row: (row["author"], row["sample_id"], row["index"]))


def compare(run: Storage, expected: Storage) -> list[str]:
    """What differs from the undisturbed run, in words; nothing where all is equal."""
    problems = []
    for folder in FOLDERS:
        names, theirs = run.names(folder, ".parquet"), expected.names(folder, ".parquet")
        if names != theirs:
            problems.append(f"{folder}: other files: {sorted(set(names) ^ set(theirs))[:3]}")
            continue
        try:
            same = rows(run, folder) == rows(expected, folder)
        except (OSError, ValueError) as error:
            problems.append(f"{folder}: {error}")
            continue
        if not same or any(run.read(name) != expected.read(name) for name in names):
            problems.append(f"{folder}: other rows")
    for folder in ("rejects/generate", "rejects/score", "failures"):
        if left := run.names(folder):
            problems.append(f"{folder}: {left[:3]}")
    return problems


def undisturbed(recipe: Path, storage: Path) -> Storage:
    """The stages up to score, without a kill."""
    for stage in ("prepare", "mask", *STAGES):
        command = [MASTERS, stage, recipe, "--set", f"storage={storage}"]
        subprocess.run(command, env=environment(), check=True, timeout=600, capture_output=True)
    return Storage(str(storage / "small"))


@contextmanager
def broken_commit(folder: Path) -> Iterator[None]:
    """Processes started in the block write tables in place."""
    (folder / "sitecustomize.py").write_text(IN_PLACE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def main() -> int:
    """Status 1 where a table differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-place", action="store_true", help="break the commit on purpose")
    options = parser.parse_args()
    models = Path(__file__).parents[2] / "models" / "tiny"
    with tempfile.TemporaryDirectory(prefix="mc", dir="/tmp") as place:
        folder = Path(place)
        recipe = write_recipe(folder, models / "student", models / "teacher", folder / "runs")
        expected = undisturbed(recipe, folder / "calm")
        run = begun(expected, folder / "runs")
        chaos = Chaos(recipe, folder / "runs", options.kills, options.seed)
        began = time.monotonic()
        if options.in_place:
            with broken_commit(folder):
                chaos.run()
        else:
            chaos.run()
        problems = compare(run, expected)
    kinds = ", ".join(f"{chaos.killed.count(kind)} {kind}s" for kind in sorted(set(chaos.killed)))
    print(f"{len(chaos.killed)} kills ({kinds}) in {time.monotonic() - began:.0f} s")
    print("\n".join(problems) or "every table equals the undisturbed run's, byte for byte")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
