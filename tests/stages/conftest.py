"""One finished run of the whole pipeline, made once per session by the command that people use."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from masters.data.storage import Storage
from tests.stages.data import begun, write_recipe
from tests.stages.scraping import Samples, scraping

JUDGE = "score.judge={type: model, path: models/tiny-judge, max_tokens: 48}"
MASTERS = Path(sys.executable).with_name("masters")


@dataclass(frozen=True)
class Finished:
    """A recipe, its run directory, what the command printed, how long it took, and the metrics that were scraped meanwhile.

    `secret` was the hub's token in the environment of the run.
    """

    recipe: Path
    run: Storage
    printed: str
    seconds: float
    metrics: Samples
    secret: str


def masters(*arguments, check=True, seconds=570, **variables):
    """Run the command, with more environment variables; the finished process."""
    command = [str(MASTERS), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment() | variables, check=False
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
    began, secret = time.monotonic(), "hf_canary0123456789"
    ray = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))  # sockets lie below it: pytest's own folders are too deep
    try:
        with scraping(ray) as metrics:
            done = masters("run", recipe, RAY_TMPDIR=str(ray), HF_TOKEN=secret)
    finally:
        shutil.rmtree(ray, ignore_errors=True)
    run = Storage(str(folder / "runs" / "small"))
    return Finished(recipe, run, done.stdout + done.stderr, time.monotonic() - began, metrics, secret)


@pytest.fixture(scope="session")
def judged(finished, tmp_path_factory):
    """The finished run once more from generate on, with one engine at a time and a judge that is a model."""
    folder = tmp_path_factory.mktemp("judged")
    run = begun(finished.run, folder)
    options = (f"storage={folder}", JUDGE, *(f"resources.{pool}={{max_actors: 1}}" for pool in ("generate", "score")))
    masters("run", finished.recipe, *(word for option in options for word in ("--set", option)), seconds=1100)
    return run
