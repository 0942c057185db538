"""A file of one storage in another: linked on a disk, copied by a store itself, else through here; whole or not at all."""

import errno
import os
import shutil

import pyarrow.fs as pafs
import pytest

from masters.data.storage import Storage

CONTENT = bytes(range(256)) * 100


class Store(pafs.SubTreeFileSystem):
    """Stands for an object store: a file system that is not this machine's."""

    def __init__(self, folder):
        super().__init__(str(folder), pafs.LocalFileSystem())


@pytest.fixture
def make(tmp_path):
    """make(kind) -> a storage in a folder of its own or, of kind `store`, in one store."""
    shared = tmp_path / "store"
    shared.mkdir()

    def make(kind, name):
        if kind == "disk":
            return Storage(str(tmp_path / name))
        (shared / name / "a").mkdir(parents=True)
        storage = Storage(str(tmp_path))
        storage._filesystem, storage._root = Store(shared), name
        return storage

    return make


@pytest.mark.parametrize(("here", "there"), [(a, b) for a in ("disk", "store") for b in ("disk", "store")])
def test_every_pair(make, here, there):
    mine, theirs = make(here, "mine"), make(there, "theirs")
    theirs.write("a/b", CONTENT)
    mine.write("a/c", b"before")
    for _ in range(2):
        mine.take("a/c", theirs, "a/b")
        assert mine.read("a/c") == CONTENT
        assert mine.names() == ["a/c"]
    theirs.write("a/b", b"changed")
    assert mine.read("a/c") == CONTENT
    with pytest.raises(FileNotFoundError):
        mine.take("a/d", theirs, "a/none")
    assert mine.names() == ["a/c"]


def test_files_of_one_disk_are_linked_also_through_a_symbolic_link(make):
    mine, theirs = make("disk", "mine"), make("disk", "theirs")
    theirs.write("a/b", CONTENT)
    os.symlink("b", f"{theirs.local_path}/a/link")
    mine.take("c", theirs, "a/link")
    assert os.path.samefile(f"{mine.local_path}/c", f"{theirs.local_path}/a/b")
    assert not os.path.islink(f"{mine.local_path}/c")
    mine.take("c", theirs, "a/b")  # what is there is the same file
    assert os.listdir(mine.local_path) == ["c"]


@pytest.mark.parametrize("problem", [errno.EXDEV, errno.EPERM])
def test_other_disks_are_copied_from(make, monkeypatch, problem):
    mine, theirs = make("disk", "mine"), make("disk", "theirs")
    theirs.write("a/b", CONTENT)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(problem, "no")))
    mine.take("c", theirs, "a/b")
    assert mine.read("c") == CONTENT
    assert not os.path.samefile(f"{mine.local_path}/c", f"{theirs.local_path}/a/b")


@pytest.mark.parametrize("refuses", [False, True])
def test_one_store_copies_by_itself_unless_it_refuses(make, monkeypatch, refuses):
    mine, theirs = make("store", "mine"), make("store", "theirs")
    theirs.write("a/b", CONTENT)
    copied, streamed = [], []

    class Copying(Store):
        def copy_file(self, source, target):
            if refuses:
                raise OSError("too large")
            copied.append((source, target))
            super().copy_file(source, target)

    mine._filesystem = Copying(mine._filesystem.base_path)
    stream = shutil.copyfileobj
    monkeypatch.setattr(shutil, "copyfileobj", lambda *a: (streamed.append(1), stream(*a)))
    mine.take("a/c", theirs, "a/b")
    assert mine.read("a/c") == CONTENT
    assert (copied, streamed) == (([], [1]) if refuses else ([("theirs/a/b", "mine/a/c")], []))


def test_a_copy_that_breaks_off_leaves_no_part_in_a_store(make, monkeypatch):
    mine, theirs = make("store", "mine"), make("disk", "theirs")
    theirs.write("a/b", CONTENT)

    def broken(source, sink, size):
        sink.write(source.read(100))
        raise OSError("the line is dead")

    monkeypatch.setattr(shutil, "copyfileobj", broken)
    with pytest.raises(OSError, match="the line is dead"):
        mine.take("a/c", theirs, "a/b")
    assert mine.names() == []
