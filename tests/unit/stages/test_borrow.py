"""What is borrowed from another run, what is not and why, and what is left when the driver is killed in between."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from masters.data.manifests import read_manifest, write_manifest
from masters.data.storage import Storage
from tests.unit.stages.test_base import Bench

FILES = 6


@pytest.fixture
def other(tmp_path):
    """A finished run of two stages, `a` with several files and something that only an unfinished stage needs."""
    bench = Bench(tmp_path / "other")
    bench.go()
    for number in range(FILES - 1):
        bench.run.write(f"a/deep/{number}", b"x" * 10)
    bench.run.write("a/later/checkpoint", b"heavy")
    return bench


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "mine")
    bench.stages = (replace(bench.stages[0], continuing=("a/later",)), bench.stages[1])
    return bench


def lines(said, name):
    return [line for line in said.splitlines() if line.startswith(name)]


@pytest.mark.parametrize(
    ("changes", "computed", "said"),
    [
        ({}, [], {"first": r"borrowed from \S+/other \(digest", "second": r"borrowed from \S+/other \(digest"}),
        (
            {"train": {"lr": 1e-5}}, ["second"],
            {"first": "borrowed from", "second": "is not borrowed from .*/other: lr was 1e-06, is 1e-05"},
        ),
        (
            {"seed": 7}, ["first", "second"],
            {"first": "is not borrowed from .*: seed was 0, is 7", "second": "is not borrowed from .*: inputs.first was"},
        ),
    ],
    ids=["the same", "another lr", "another seed"],
)  # fmt: skip
def test_what_is_the_same_is_borrowed_and_the_rest_is_computed(bench, other, changes, computed, said):
    text = bench.go(from_run=other.run.uri, **changes)
    assert bench.calls == computed
    for name, pattern in said.items():
        assert re.search(pattern, lines(text, name)[0]), text
    for name in {"first", "second"} - set(computed):
        mine, theirs = read_manifest(bench.run, name), read_manifest(other.run, name)
        assert mine == replace(theirs, borrowed=other.run.uri, finished=mine.finished)
    again = bench.go(from_run=other.run.uri, **changes)
    assert again.count("done (digest") == 2
    assert "borrowed" not in again


def test_borrowed_files_are_whole_and_the_run_stands_alone(bench, other):
    said = bench.go(from_run=other.run.uri)
    assert f"{FILES} files" in lines(said, "first")[0]
    names = [name for name in other.run.names("a") if "later" not in name]
    assert bench.run.names("a") == names
    assert bench.run.names("borrowing") == []
    path = f"{bench.run.local_path}/{names[0]}"
    assert os.stat(path).st_nlink == 2  # linked, not copied
    other.run.delete("")
    assert all(bench.run.read(name) for name in names)


def test_a_sibling_is_named_without_its_storage(bench, other, tmp_path):
    said = bench.go(from_run="other", storage=str(tmp_path))
    assert said.count(" borrowed from ") == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [(None, "it has no such stage"), ("started", "it is not done there")],
    ids=["absent", "unfinished"],
)
def test_what_is_not_there_or_not_done_is_computed(bench, other, status, said):
    if status is None:
        other.run.delete("")
    else:
        for name in ("first", "second"):
            write_manifest(other.run, replace(read_manifest(other.run, name), status=status))
    text = bench.go(from_run=other.run.uri)
    assert bench.calls == ["first", "second"]
    assert text.count(f"is not borrowed from {other.run.uri}: {said}") == 2


def test_own_work_that_is_not_finished_gives_way(bench, other):
    bench.fail = True
    with pytest.raises(ValueError, match="broken"):
        bench.go()
    bench.run.write("a/half", b"mine")
    bench.go(from_run=other.run.uri)
    assert bench.calls == ["first"]
    assert "a/half" not in bench.run.names()


def test_a_run_that_changes_meanwhile_lends_nothing(bench, other, monkeypatch):
    take = Storage.take

    def redone(self, name, source, theirs):
        take(self, name, source, theirs)
        write_manifest(other.run, replace(read_manifest(other.run, "first"), seconds=99.0))

    monkeypatch.setattr(Storage, "take", redone)
    said = bench.go(only=("first",), from_run=other.run.uri)
    assert "it changed meanwhile" in said
    assert bench.calls == ["first"]
    assert bench.run.names("a") == ["a/out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from masters.data.storage import Storage
from tests.unit.stages.test_base import Bench
take, left = Storage.take, int(sys.argv[3])
def cut(self, name, source, theirs):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    take(self, name, source, theirs)
Storage.take = cut
import masters.stages.borrow as borrow
borrow._AT_ONCE = 1
Bench(Path(sys.argv[1])).go(from_run=sys.argv[2])
"""


@pytest.mark.parametrize("again", ["borrows", "computes", "of another seed"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_kill_in_the_middle_leaves_nothing_half(bench, other, again, after):
    command = [sys.executable, "-c", KILLED, bench.run.local_path, other.run.uri, str(after)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert len(bench.run.names("a")) == after
    assert read_manifest(bench.run, "first") is None
    changes = {"borrows": {"from_run": other.run.uri}, "computes": {}, "of another seed": {"seed": 7}}[again]
    bench.go(**changes)
    mine, computed = bench.run.names("a"), [] if again == "borrows" else ["first", "second"]
    assert bench.calls == computed
    assert mine == (["a/out"] if computed else [name for name in other.run.names("a") if "later" not in name])
    assert bench.run.names("borrowing") == bench.run.names("superseded") == []
