"""Students in the run directory: when they are written, and that a folder is whole or not there."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import load, save_file

from masters.config.images import ImagesConfig
from masters.config.load import load_recipe
from masters.data.storage import Storage
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.training import loop, students
from masters.training.curriculum import steps

CARD = '---\nlicense: "mit"\nlicense_link: "LICENSE"\nlibrary_name: transformers\n---\n\nA student that was not evaluated yet: `masters report` writes its card.\n'
BESIDE = {"tokenizer.json": "{}", "LICENSE": "MIT License", "README.md": CARD}
"""What lies beside the weights: the base's own, and the beginning of a card."""


class Worker:
    """The rank that writes, without a gang: its student is a file with some text."""

    def __init__(self, monkeypatch, folder):
        monkeypatch.setattr(students.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(students.dist, "barrier", lambda: None)
        self.run, self.text, self.scratch = Storage(str(folder / "run")), "first", folder / "scratch"
        base = folder / "base"
        base.mkdir()
        self._save("base", base)
        for name, text in {"tokenizer.json": "{}", "LICENSE": "MIT License"}.items():
            (base / name).write_text(text)
        student = SimpleNamespace(export=self._export, folder=base)
        chat = SimpleNamespace(family=QWEN2_5_VL, images=ImagesConfig())
        self.cast = SimpleNamespace(trio=SimpleNamespace(student=student), chat=chat)

    def _export(self, target):
        target.mkdir()
        self._save(self.text, target)

    @staticmethod
    def _save(text, folder):
        save_file({"weight": torch.tensor(list(text.ljust(8).encode()))}, folder / "model.safetensors")

    def write(self, level, text):
        self.text = text
        students.export_level(self.cast, self.run, level, self.scratch)

    def files(self):
        assert list(self.scratch.iterdir()) == []
        return {name: self._read(name) for name in self.run.names("train")}

    def _read(self, name):
        if not name.endswith(".safetensors") or len(self.run.read(name)) < 9:
            return self.run.read(name).decode()
        return bytes(load(self.run.read(name))["weight"].tolist()).decode().strip()


@pytest.fixture
def worker(monkeypatch, tmp_path):
    return Worker(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("total", "per_step", "ends"),
    [(3, 1, [0, 1, 2, 3, 4, 5]), (6, 2, [0, 1, 2, 3, 4, 5]), (6, 1, [1, 3, 5, 7, 9, 11]), (7, 9, [0, 1, 2, 3, 4, 5])],
)
def test_each_level_ends_once(total, per_step, ends):
    curriculum = (
        "curriculum=[{alias: a, path: a, r_max: 0.2, mask_step: 0.1}, {alias: b, path: b, r_max: 0.1, mask_step: 0.05}]"
    )
    config = load_recipe(
        "recipes/tiny.yaml",
        [
            curriculum,
            f"train.groups_per_step={per_step}",
            "train.groups_per_micro_batch=1",
            "resources.train.workers=1",
        ],
    )
    planned = steps(config, total)
    assert [step.number for step in planned if students.ends_level(planned, step)] == ends
    assert [planned[number].level for number in ends] == [
        "a@r0.20",
        "a@r0.10",
        "a@r0.00",
        "b@r0.10",
        "b@r0.05",
        "b@r0.00",
    ]


def test_every_level_has_a_folder_and_the_last_student_its_own(worker):
    worker.write("big@r0.40", "one")
    worker.write("big@r0.00", "two")
    students.export_last(worker.cast, worker.run, worker.scratch)
    assert worker.files() == {
        f"train/{folder}/{name}": text
        for folder, student in (("levels/big@r0.40", "one"), ("levels/big@r0.00", "two"), ("student", "two"))
        for name, text in (("model.safetensors", student), *BESIDE.items())
    }


def test_writing_a_level_again_gives_the_same_files_and_clears_what_a_kill_left(worker):
    worker.write("big@r0.40", "one")
    before = worker.files()
    worker.run.write("train/levels/.big@r0.40.0123/model.safetensors", b"ha")
    worker.run.write("train/levels/big@r0.40/from-before", b"x")
    worker.write("big@r0.40", "one")
    assert worker.files() == before


def test_an_export_that_is_cut_off_leaves_no_folder_of_the_level(worker, monkeypatch):
    monkeypatch.setattr("masters.data.storage.os.rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker.write("big@r0.40", "one")
    assert not worker.run.is_folder("train/levels/big@r0.40")


WRITTEN = {
    # name: (students by level, steps that are done, levels that are written and steps that may be checkpointed, in order)
    "off": (False, 0, [1, 2, 3, 4, 5, 6]),
    "on": (True, 0, [1, "big@r0.10", 2, 3, "big@r0.05", 4, 5, "big@r0.00", 6]),
    "continued inside a level": (True, 3, ["big@r0.05", 4, 5, "big@r0.00", 6]),
    "continued at its end": (True, 4, [5, "big@r0.00", 6]),
    "continued at the end": (True, 6, []),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_level_is_written_before_the_checkpoint_behind_it(monkeypatch, tmp_path, name):
    by_level, first, expected = WRITTEN[name]
    one = ["train.groups_per_step=1", "train.groups_per_micro_batch=1", "resources.train.workers=1"]
    config = load_recipe(
        "recipes/tiny.yaml", ["curriculum[0].r_max=0.1", f"train.students_by_level={str(by_level).lower()}", *one]
    )
    events = []
    for of_worker in ("GroupReader", "Collator", "Trackers"):
        monkeypatch.setattr(loop, of_worker, MagicMock())
    monkeypatch.setattr(loop, "_take_step", lambda *_: ({}, []))
    monkeypatch.setattr(loop, "deal", lambda *_: [])
    monkeypatch.setattr(loop, "export_level", lambda cast, run, level, scratch: events.append(level))
    monkeypatch.setattr(loop.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 1)
    task = loop.TrainTask(config, Storage(str(tmp_path)), 6, (), MagicMock())
    checkpoints = SimpleNamespace(after_step=lambda done, last: events.append(done))
    loop._run_steps(task, MagicMock(), MagicMock(), checkpoints, first, torch.device("cpu"))
    assert events == expected
