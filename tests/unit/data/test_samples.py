"""Samples by position, and by an id without looking everywhere."""

import pyarrow as pa
import pytest

from masters.data import samples
from masters.data.manifests import new_manifest, write_manifest
from masters.data.order import permutation_key
from masters.data.samples import find_sample, read_samples, train_total, write_samples
from masters.data.storage import Storage
from masters.data.tables import SAMPLES

COUNTS = {"train": 100, "test": 7, "validation": 0}


def ids_of(split):
    return sorted((f"s/{split}-{i}" for i in range(COUNTS[split])), key=lambda name: permutation_key(3, name))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """100 train samples in 25 files; one of test has the id of one of train."""
    monkeypatch.setattr(samples, "FILE_ROWS", 4)
    run = Storage(str(tmp_path))
    for split in COUNTS:
        ids = ids_of(split)
        if split == "test":
            ids = sorted([*ids, "s/train-5"], key=lambda name: permutation_key(3, name))
        rows = [{"sample_id": name, "position": i, "split": split} for i, name in enumerate(ids)]
        write_samples(run, split, pa.Table.from_pylist(rows, SAMPLES))
    write_manifest(run, new_manifest("prepare", {"seed": 3}))
    return run


def test_every_id_is_found_where_it_lies(run):
    for split in ("train", "test"):
        for position, name in enumerate(ids_of(split)):
            found = find_sample(run, name)
            assert (found["sample_id"], found["split"]) == (name, split)
            if split == "train":
                assert found["position"] == position
                assert read_samples(run, split, position, position + 1) == [found]


def test_an_id_of_two_splits_is_that_of_the_first_or_of_the_one_that_was_named(run):
    assert find_sample(run, "s/train-5")["split"] == "train"
    assert find_sample(run, "s/train-5", ["test"])["split"] == "test"


@pytest.mark.parametrize("name", ["s/train-100", "", "s/train-5-0"])
def test_unknown_ids(run, name):
    assert find_sample(run, name) is None


def test_few_files_are_opened(run, monkeypatch):
    opened, whole = [], Storage.open_parquet
    monkeypatch.setattr(Storage, "open_parquet", lambda self, name: opened.append(name) or whole(self, name))
    for name in ids_of("train"):
        opened.clear()
        assert find_sample(run, name)
        assert len(opened) <= 6  # 5 halve 25 files, 1 holds it


def test_before_prepare_there_is_none(tmp_path):
    empty = Storage(str(tmp_path))
    assert find_sample(empty, "s/train-1") is None
    assert train_total(empty) == 0
