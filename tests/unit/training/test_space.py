"""What checkpoints weigh against what is free, said before anything is started."""

import re
import shutil
from types import SimpleNamespace

import pytest

from masters.config.load import load_recipe
from masters.models.folder import parameter_count
from masters.stages import train
from masters.training import space
from masters.training.space import CHECKPOINTS, checkpoint_bytes, in_words, space_problems

GB = 10**9


def recipe(*overrides):
    return load_recipe("recipes/tiny.yaml", overrides)


@pytest.fixture
def disks(monkeypatch, tmp_path):
    """disks(storage, scratch) -> overrides: free GB of both folders; they are on one disk where scratch is None."""

    def make(storage, scratch):
        free = {"storage": storage, "scratch": storage if scratch is None else scratch}
        for name in free:
            (tmp_path / name).mkdir()

        def of(path):
            return next(name for name in free if path.is_relative_to(tmp_path / name))

        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free[of(path)] * GB)))
        numbers = {"storage": 1, "scratch": 1 if scratch is None else 2}
        monkeypatch.setattr(space._Place, "disk", property(lambda place: numbers[of(place.folder)]))
        return f"storage={tmp_path}/storage", f"train.scratch={tmp_path}/scratch"

    return make


CASES = {
    # name: (free GB of storage and of scratch, more fields, GB of checkpoints that are stored, what is said), one weighs 10 GB
    "room for all": ((30, 10), (), 0, []),
    "room on one disk": ((40, None), (), 0, []),
    "no room on one disk": ((39, None), (), 0, [r"storage = .*/storage/tiny: 40\.0 GB more are needed \(checkpoints of 10\.0 GB each, "
        r"train\.keep_checkpoints 2 and one on its way; a checkpoint of 10\.0 GB until it is stored\), 39\.0 GB are free\. Make room,"]),
    "too little in storage": ((29, 10), (), 0, [r"storage = .*: 30\.0 GB more are needed \(.*on its way\), 29\.0 GB are free"]),
    "too little in scratch": ((30, 9), (), 0, [r"train\.scratch = .*/scratch: 10\.0 GB more are needed \(a checkpoint of 10"]),
    "too little in both": ((0, 0), (), 0, [r"storage = ", r"train\.scratch = "]),
    "one kept": ((20, 10), ("train.keep_checkpoints=1",), 0, []),
    "more kept": ((30, 10), ("train.keep_checkpoints=3",), 0, [r"40\.0 GB more are needed .*train\.keep_checkpoints 3"]),
    "going on beside those of before": ((10, 10), (), 20, []),
    "an object store": ((0, 10), ("storage=s3://bucket/runs",), 0, []),
    "scratch beside an object store": ((0, 9), ("storage=s3://bucket/runs",), 0, [r"train\.scratch = "]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_free_space(disks, tmp_path, name):
    free, fields, held, said = CASES[name]
    config = recipe(*disks(*free), *fields)
    if held:
        stored = tmp_path / "storage/tiny" / CHECKPOINTS / "checkpoint_1"
        stored.mkdir(parents=True)
        with (stored / "part").open("wb") as file:
            file.truncate(held * GB)
    problems = [str(problem) for problem in space_problems(config, 10 * GB)]
    assert len(problems) == len(said)
    assert all(re.search(pattern, problem) for pattern, problem in zip(said, problems, strict=True)), problems


def test_twelve_bytes_for_each_weight_that_learns(trained):
    student, all_of_it = trained[0], recipe().train
    assert checkpoint_bytes(student, all_of_it) == 12 * parameter_count(student)
    tower = checkpoint_bytes(student, recipe("train.tower_lr_factor=0").train)
    projector = checkpoint_bytes(student, recipe("train.projector_lr_factor=0").train)
    both = checkpoint_bytes(student, recipe("train.tower_lr_factor=0", "train.projector_lr_factor=0").train)
    visual = 12 * parameter_count(student, lambda name: "visual." in name)
    assert 12 * parameter_count(student) - both == visual
    assert tower > both < projector
    assert tower + projector - both == checkpoint_bytes(student, all_of_it)


def test_a_run_is_refused_before_the_gang_starts(disks, trained):
    config = recipe(*disks(0, 0), f"student.path={trained[0]}")
    (first, second) = train._look_for_space(config)
    assert first.startswith("storage = ")
    assert second.startswith("train.scratch = ")
    assert in_words(config, 10 * GB).startswith(
        "a checkpoint weighs 10.0 GB: 3 of them at most in the run directory, one in "
    )
