"""A second run with another learning rate: what it shares with the first is borrowed, and it trains. By labels: no engine starts."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from masters.data.manifests import read_manifest
from masters.data.storage import Storage
from tests.stages.conftest import environment

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.filterwarnings("default")]
SHARED = ("prepare", "mask", "generate", "score")
DRIVER = """
import json, sys
from masters.config.load import validate
from masters.pipeline import run_stages
from masters.reporting.progress import Screen
from masters.stages.cluster import disconnect
recipe, stages = json.loads(sys.argv[1])
run_stages(validate(recipe), Screen(), stages)
print("ray" if "ray" in sys.modules else "no ray")
disconnect()
"""


@dataclass(frozen=True)
class Runs:
    """Runs of one storage, made by drivers of their own."""

    storage: Path
    models: tuple[Path, Path]

    def make(self, name: str, stages: tuple[str, ...], lr: float = 1e-3, **changes: object) -> tuple[Storage, str]:
        """(run directory, what the driver said)."""
        student, teacher = map(str, self.models)
        recipe = {
            "name": name, "storage": str(self.storage), "student": {"path": student},
            "curriculum": [{"alias": "big", "path": teacher, "r_max": 0.2, "mask_step": 0.2}],
            "prepare": {"sources": [{"type": "charts", "train_images": 8, "test_images": 1}]},
            "generate": {"mix": {"teacher": 0, "student": 0, "label": 1}, "max_tokens": 16},
            "score": {"judge": {"type": "rule"}}, "evaluate": {"max_tokens": 16}, "engine": {"max_model_len": 128},
            "train": {"objective": "sft", "precision": "fp32", "lr": lr, "groups_per_step": 8, "groups_per_micro_batch": 4,
                      "gradient_checkpointing": False},
            **changes,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps([recipe, stages])],
            env=environment(), capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return Storage(str(self.storage / name)), done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory, trained):
    return Runs(tmp_path_factory.mktemp("runs"), trained)


@pytest.fixture(scope="module")
def first(runs):
    return runs.make("first", (*SHARED, "train"))[0]


def test_another_learning_rate_borrows_all_that_comes_before_and_trains(runs, first):
    run, said = runs.make("second", SHARED, from_run="first", lr=1e-4)
    assert "no ray" in said  # nothing is computed
    for name in SHARED:
        mine, theirs = read_manifest(run, name), read_manifest(first, name)
        assert f"{name:<9} borrowed from {first.uri} (digest {mine.digest}): " in said
        assert (mine.status, mine.digest, mine.counts) == ("done", theirs.digest, theirs.counts)
    for folder in ("samples", "images", "thresholds", "responses", "verdicts"):
        files = first.names(folder)
        assert files == run.names(folder)
        assert files
        assert all(run.read(name) == first.read(name) for name in files)
    run, said = runs.make("second", ("train",), from_run="first", lr=1e-4)
    assert f"train     is not borrowed from {first.uri}: train.lr was 0.001, is 0.0001" in said
    mine, theirs = read_manifest(run, "train"), read_manifest(first, "train")
    assert (mine.status, mine.borrowed, mine.counts["steps"]) == ("done", "", theirs.counts["steps"])
    assert run.read("train/student/model.safetensors") != first.read("train/student/model.safetensors")


def test_a_finished_training_is_borrowed_without_its_checkpoints(runs, first):
    run, _ = runs.make("again", (*SHARED, "train"), from_run="first")
    assert run.read("train/student/model.safetensors") == first.read("train/student/model.safetensors")
    assert first.names("train/checkpoints")
    assert not run.names("train/checkpoints")


def test_another_seed_shares_the_masks_alone_and_says_why(runs, first):
    run, said = runs.make("third", ("prepare", "mask"), from_run="first", seed=4)
    assert f"prepare   is not borrowed from {first.uri}: seed was 0, is 4" in said
    assert f"mask      borrowed from {first.uri}" in said
    assert [read_manifest(run, name).borrowed for name in ("prepare", "mask")] == ["", first.uri]
