"""The whole chain on tiny models of each family: mask, generate, score, train on two workers, evaluate."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from masters.data.manifests import read_manifest
from masters.data.metrics import read_metrics
from masters.data.storage import Storage
from masters.data.tables import RESPONSES, VERDICTS
from masters.models.checkpoint import load_model
from masters.models.folder import shapes
from masters.models.tiny_families import KINDS
from masters.pipeline import NAMES
from tests.stages.conftest import environment

LONGEST = 1200
SAMPLES, RESPONSES_EACH = 16, 3
OTHERS = [kind for kind in KINDS if kind != "qwen2_5_vl"]
"""Qwen2.5-VL is what every other test of a chain runs on."""
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default"), pytest.mark.timeout(LONGEST)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all families' runs, by one driver: Ray and what its workers import are started once."""
    folder = tmp_path_factory.mktemp("families")
    command = [sys.executable, "-m", "tests.stages.families", str(folder), *OTHERS]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment(), timeout=LONGEST, check=False
        )
    assert done.returncode == 0, (folder / "log.txt").read_text()[-6000:]
    return folder


@pytest.mark.parametrize("kind", OTHERS)
def test_a_student_of_each_family_is_taught_and_measured(runs: Path, kind):
    run = Storage(str(runs / kind / "runs" / kind))
    for name in NAMES[:-1]:
        assert read_manifest(run, name) is not None, name
    responses = run.read_tables(run.names("responses", ".parquet"), RESPONSES)
    verdicts = run.read_tables(run.names("verdicts", ".parquet"), VERDICTS)
    assert len(responses) == len(verdicts) == SAMPLES * RESPONSES_EACH
    assert set(responses["author"].to_pylist()) == {"big@r0.20", "big@r0.00", "label"}
    steps = read_metrics(run)
    assert len(steps) == 4
    assert all(0 < row["divergence"] < 0.7 for row in steps)
    base, student = runs / kind / "student", runs / kind / "runs" / kind / "train" / "student"
    assert shapes(student) == shapes(base)
    before, after = (dict(load_model(folder, torch.float32).named_parameters()) for folder in (base, student))
    assert any(not torch.equal(before[name], weight) for name, weight in after.items())
