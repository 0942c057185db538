"""One finished run of the whole pipeline, made once per session by the command that people use."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from masters.data.storage import Storage
from tests.stages.data import write_recipe

MASTERS = Path(sys.executable).with_name("masters")


@dataclass(frozen=True)
class Finished:
    """A recipe, its run directory, what the command printed, and how long it took."""

    recipe: Path
    run: Storage
    printed: str
    seconds: float


def masters(*arguments, check=True, **options):
    """Run the command; the finished process."""
    command = [str(MASTERS), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=570, env=environment(), check=False, **options
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def environment():
    """Without what pytest or an earlier test put there for engines in this process."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VLLM_", "TORCHDYNAMO", "RAY_ADDRESS"))
    }
    return {**mine, "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("small")
    recipe = write_recipe(folder, *trained, folder / "runs")
    began = time.monotonic()
    done = masters("run", recipe)
    return Finished(recipe, Storage(str(folder / "runs" / "small")), done.stdout, time.monotonic() - began)
