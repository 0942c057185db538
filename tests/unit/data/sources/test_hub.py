import io
import json
import zipfile

import datasets
import pytest
from PIL import Image
from pydantic import TypeAdapter

from masters.config.prepare import Source
from masters.data.sources.hub import hub_parts, hub_records, resolve_revision

CARD = """---
configs:
- config_name: one
  data_files:
  - {split: train, path: data/train-*.parquet}
  - {split: testmini, path: data/test-*.parquet}
- config_name: two
  data_files: data/test-*.parquet
---
"""
IMAGE = Image.new("RGB", (8, 8), "red")


def png():
    stream = io.BytesIO()
    IMAGE.save(stream, "PNG")
    return stream.getvalue()


def source(path, **fields):
    return TypeAdapter(Source).validate_json(json.dumps({"type": "hub", "name": "h", "path": str(path), **fields}))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder as the hub lays one out: two training shards of three rows, one of tests."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "data").mkdir()
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "image": datasets.Image(),
            "images": datasets.List(datasets.Image()),
            "parts": datasets.List({"kind": datasets.Value("string"), "picture": datasets.Image()}),
        }
    )
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        rows = {
            "id": [10 * number + i for i in range(3)],
            "image": [IMAGE] * 3,
            "images": [[IMAGE], [], [IMAGE, IMAGE]],
            "parts": [[{"kind": "x", "picture": IMAGE}]] * 3,
        }
        datasets.Dataset.from_dict(rows, features).to_parquet(f"{folder}/data/{name}.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def test_splits_and_shards_as_the_card_names_them(repository):
    assert hub_parts(source(repository, config="one"), "", "HF_TOKEN") == [("train", 2), ("testmini", 1)]
    assert hub_parts(source(repository, config="two"), "", "HF_TOKEN") == [("train", 1)]
    assert resolve_revision(source(repository), "HF_TOKEN") == ""


@pytest.mark.parametrize(
    ("split", "shard", "ids"), [("train", 0, [0, 1, 2]), ("train", 1, [10, 11, 12]), ("testmini", 0, [20, 21, 22])]
)
def test_records_of_a_shard_from_any_place_on(repository, split, shard, ids):
    def read(start=(0, 0)):
        return list(hub_records(source(repository, config="one"), "", "HF_TOKEN", split, shard, start))

    found = read()
    assert [record.value["id"] for record in found] == ids
    assert [(record.place, record.next) for record in found] == [(f"record {n}", (0, n)) for n in (1, 2, 3)]
    assert [read(record.next) for record in found] == [found[1:], found[2:], []]


def test_images_are_not_decoded_wherever_they_stand(repository):
    value = next(hub_records(source(repository, config="one"), "", "HF_TOKEN", "train", 0)).value
    images = [value["image"], *value["images"], value["parts"][0]["picture"]]
    assert [image["bytes"] for image in images] == [png()] * 3


def test_data_without_a_card(tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"q": "é", "m": [{"x": 1}]}\n{"q": null, "m": []}\n')
    ((split, shards),) = hub_parts(source(tmp_path), "", "HF_TOKEN")
    assert (split, shards) == ("validation", 1)
    values = [record.value for record in hub_records(source(tmp_path), "", "HF_TOKEN", split, 0)]
    assert values == [{"q": "é", "m": [{"x": 1}]}, {"q": None, "m": []}]


def test_images_inside_an_archive_are_fetched(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("a.png", png())
        archive.writestr("metadata.jsonl", json.dumps({"file_name": "a.png", "text": "A cat."}))
    (record,) = hub_records(source(tmp_path), "", "HF_TOKEN", "train", 0)
    assert record.value["image"]["bytes"] == png()
    assert record.value["text"] == "A cat."


def first(path, split="train", revision="", **fields):
    return next(hub_records(source(path, **fields), revision, "HF_TOKEN", split, 0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, r"config = None: .* has the configurations one, two\. Name one"),
        ({"config": "three"}, r"config = three: .* has the configurations one, two\. Name one"),
        ({"config": "one", "split": "test"}, r"split = test: .* no such split; it has train, testmini\. Name one"),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_there(repository, fields, words):
    with pytest.raises(ValueError, match=words):
        first(repository, **fields)


def test_a_folder_has_no_revision(repository):
    with pytest.raises(ValueError, match=r"revision = main: .* is a folder, which has none\. Remove revision\."):
        resolve_revision(source(repository, revision="main"), "HF_TOKEN")


def test_a_folder_without_data(tmp_path):
    with pytest.raises(ValueError, match=r"path = .*: cannot be read as a data set: .*type: files"):
        hub_parts(source(tmp_path), "", "HF_TOKEN")


def test_damaged_data_name_the_place(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n{"a": 2\n')
    with pytest.raises(ValueError, match=r", split train, shard 0: cannot be read behind record 0: "):
        first(tmp_path)


@pytest.fixture
def cache(tmp_path, monkeypatch, repository):
    """The hub's cache with one commit of owner/name, and no connection."""
    commit = "0123456789" * 4
    kept = tmp_path / "datasets--owner--name"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    (kept / "snapshots").mkdir()
    (kept / "snapshots" / commit).symlink_to(repository)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return commit


def test_off_line_the_cache_is_read(cache):
    fields = {"config": "one"}
    assert resolve_revision(source("owner/name", **fields), "HF_TOKEN") == cache
    assert resolve_revision(source("owner/name", revision="main", **fields), "HF_TOKEN") == cache
    assert hub_parts(source("owner/name", **fields), cache, "HF_TOKEN") == [("train", 2), ("testmini", 1)]
    assert first("owner/name", revision=cache, **fields).value["id"] == 0


@pytest.mark.parametrize(("path", "revision"), [("owner/other", None), ("owner/name", "v2")])
def test_off_line_without_a_cache_the_error_says_so(cache, path, revision):
    with pytest.raises(
        ValueError, match=rf"path = {path}: .* the hub cannot be reached.* hf download --repo-type dataset"
    ):
        resolve_revision(source(path, revision=revision), "HF_TOKEN")


class Response:
    """Of the hub, as its client's errors need it."""

    request = None

    def __init__(self):
        self.headers = {}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "RepositoryNotFoundError",
            r"path = owner/name: neither a folder nor a data set on the hub\. .* into MY_TOKEN",
        ),
        ("RevisionNotFoundError", r"revision = v2: owner/name has no such commit, tag or branch"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, cache, error, words):
    from huggingface_hub import HfApi, errors

    def refuse(*_, **__):
        raise getattr(errors, error)("404", response=Response())

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    with pytest.raises(ValueError, match=words):
        resolve_revision(source("owner/name", revision="v2"), "MY_TOKEN")


def test_the_commit_that_the_hub_names_is_the_revision(monkeypatch, cache):
    from huggingface_hub import HfApi

    asked = []

    def answer(api, path, revision):
        asked.append((api.token, path, revision))
        return type("Info", (), {"sha": "abc"})

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", answer)
    monkeypatch.setenv("MY_TOKEN", "hf_x")
    assert resolve_revision(source("owner/name", revision="v2"), "MY_TOKEN") == "abc"
    assert asked == [("hf_x", "owner/name", "v2")]


def test_where_the_hub_does_not_answer_the_cache_is_read(monkeypatch, cache):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert resolve_revision(source("owner/name"), "HF_TOKEN") == cache
