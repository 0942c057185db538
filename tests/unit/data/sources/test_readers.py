"""Sources as a whole: parts, reading on from any place, errors that name source and place, and what enters the digest."""

import json
from itertools import islice

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter

from masters.config.prepare import Source
from masters.data.image_files import ImageReader
from masters.data.rows import RawRow, check_row
from masters.data.sources import fingerprints
from masters.data.sources.fingerprints import fingerprint
from masters.data.sources.readers import parts_of, read_part
from tests.unit.data.test_rows import png


def read_source(source):
    """All rows of a source, part by part."""
    for part in parts_of(source, ""):
        for read in read_part(source, part, (0, 0), ""):
            yield from read.rows


def source(**fields):
    return TypeAdapter(Source).validate_json(json.dumps({"name": "s", **fields}))


def conversation(*turns):
    return [{"from": speaker, "value": value} for speaker, value in turns]


def checked(source, rows):
    images = ImageReader(source, 10_000)
    return [check_row(row, source, images)[0] for row in rows]


ONE = conversation(("human", "What?"), ("gpt", "A cat."))


@pytest.fixture
def every_kind(tmp_path):
    """{name: source} over a folder of each kind that has more than one record."""
    lines = [{"id": number, "image": "a.png", "conversations": ONE} for number in range(7)]
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "d.json").write_text(json.dumps(lines))
    rows = [
        {"id": f"{n}", "question": "Q?", "answer": f"{n}", "image": {"bytes": png(), "path": None}} for n in range(7)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet", row_group_size=3)
    tsv = ["id\tquestion\tanswer", *(f"{number}\tQ?\t{number}" for number in range(7))]
    (folder / "d.tsv").write_text("\n".join(tsv))
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), hub / "data" / "train-00000-of-00001.parquet")
    made = {name: source(type="files", path=str(folder / name)) for name in ("d.jsonl", "d.json", "d.parquet", "d.tsv")}
    custom = source(type="custom", reader="tests.unit.data.sources.test_readers:seven")
    return {
        **made,
        "hub": source(type="hub", path=str(hub)),
        "charts": source(type="charts", train_images=3, test_images=0),
        "custom": custom,
    }


def seven():
    for number in range(7):
        yield {"row_id": number, "question": "Q?", "answers": "A"}


@pytest.mark.parametrize("kind", ["d.jsonl", "d.json", "d.parquet", "d.tsv", "hub", "charts", "custom"])
def test_reading_goes_on_behind_any_record(every_kind, kind):
    chosen, rows = every_kind[kind], 0
    for part in parts_of(chosen, ""):
        whole = list(read_part(chosen, part, (0, 0), ""))
        rows += len(whole)
        for place, read in enumerate(whole):
            assert list(read_part(chosen, part, read.next, "")) == whole[place + 1 :]
    assert rows >= 7


@pytest.mark.parametrize("kind", ["d.jsonl", "d.json", "d.parquet", "d.tsv", "hub", "charts", "custom"])
def test_every_kind_gives_good_samples(every_kind, kind):
    samples = checked(every_kind[kind], read_source(every_kind[kind]))
    assert len({sample["sample_id"] for sample in samples}) == len(samples) >= 7


def test_row_groups_are_parts_and_the_split_is_in_the_names_of_files(tmp_path):
    for name, count in (("train-00000-of-00002", 2500), ("train-00001-of-00002", 10), ("test-00000-of-00001", 5)):
        rows = [{"id": f"{name}-{n}", "question": "Q?", "answer": "A"} for n in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=1250)
    found = parts_of(source(type="files", path=str(tmp_path)), "")
    assert [(p.name[:7], p.piece, p.split) for p in found] == [
        ("test-00", 0, "test"), ("train-0", 0, "train"), ("train-0", 1, "train"), ("train-0", 0, "train")
    ]  # fmt: skip
    rows = list(read_source(source(type="files", path=str(tmp_path))))
    assert sum(row.split == "test" for row in rows) == 5
    with pytest.raises(ValueError, match=r"prepare\.sources\[s\].*split = test.*train"):
        parts_of(source(type="files", path=str(tmp_path), split="test"), "")


@pytest.mark.parametrize("split", [False, True])
def test_folders_that_hugging_face_datasets_wrote(tmp_path, split):
    text = {name: datasets.Value("string") for name in ("id", "question", "answer")}
    data = datasets.Dataset.from_dict(
        {"id": ["a"], "question": ["Q"], "answer": ["A"], "image": [Image.new("RGB", (8, 8))]},
        datasets.Features({**text, "image": datasets.Image()}),
    )
    (datasets.DatasetDict({"test": data}) if split else data).save_to_disk(tmp_path / "d")
    kind = source(type="datasets", path=str(tmp_path / "d"))
    (sample,) = checked(kind, read_source(kind))
    assert (sample["split"], len(sample["image_ids"])) == ("test" if split else "train", 1)


def test_fields_that_stand_in_a_later_line_only_are_known(tmp_path):
    lines = [{"q": "Q?", "a": "A"}] * 3 + [{"q": "Q?", "a": "A", "pic": "a.png"}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fields = {"type": "files", "path": str(tmp_path / "d.jsonl"), "question": "q", "answer": "a"}
    assert [len(row.images) for row in read_source(source(**fields, images="pic"))] == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"prepare\.sources\[s\]\.images = photo: no such field"):
        list(read_source(source(**fields, images="photo")))


def test_relative_images_start_where_their_file_lies(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for folder in ("deep", "deep/er"):
        (tmp_path / folder / "d.jsonl").write_text(json.dumps({"id": folder, "image": "a.png", "conversations": ONE}))
    rows = list(read_source(source(type="files", path=str(tmp_path))))
    assert [row.folder for row in rows] == [f"{tmp_path}/deep", f"{tmp_path}/deep/er"]


READERS = """
from PIL import Image
from masters.data.rows import RawRow
def rows(count):
    for i in range(count):
        yield RawRow(number=i, row_id=i, question='Q', answers='A')
def fields():
    yield {"row_id": "a", "question": "Q", "answers": "A", "images": [Image.new("RGB", (8, 8))]}
def odd():
    yield from [{"id": 1}, None]
def raising():
    yield {"row_id": "a", "question": "Q", "answers": "A"}
    yield {"row_id": "b", "question": "Q", "answers": {}['texts']}
"""


def test_a_reader_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_reader.py").write_text(READERS)
    monkeypatch.syspath_prepend(tmp_path)
    rows = list(read_source(source(type="custom", reader="my_reader:rows", options={"count": 2})))
    assert rows == [RawRow(number=i, row_id=i, question="Q", answers="A") for i in range(2)]
    mine = source(type="custom", reader="my_reader:fields", split="test")
    (sample,) = checked(mine, read_source(mine))
    assert (sample["split"], len(sample["image_ids"])) == ("test", 1)
    assert [row.problem for row in read_source(source(type="custom", reader="my_reader:odd"))] == [
        ("reader yielded fields that a RawRow does not have", "id"),
        ("reader yielded neither a RawRow nor a mapping", "NoneType"),
    ]
    with pytest.raises(ValueError, match="Is it on PYTHONPATH"):
        list(read_source(source(type="custom", reader="my_reader:nothing")))
    with pytest.raises(
        ValueError,
        match=r"sources\[s\]\.reader = my_reader:raising: raised KeyError: 'texts' for row 1 at .*my_reader\.py, line 13: yield",
    ):
        list(read_source(source(type="custom", reader="my_reader:raising")))


BROKEN = {
    "d.parquet": (b"PAR1 and nothing more", "d.parquet"),
    "d.json": (b'[{"id": 1}, {"id"', "d.json"),
    "d.jsonl": (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "nowhere": (None, "no such file or folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_of_a_source_name_it_and_its_file(tmp_path, name):
    content, words = BROKEN[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^prepare\.sources\[s\].*{name}(?s:.*)") as caught:
        list(read_source(source(type="files", path=str(tmp_path / name))))
    assert words in str(caught.value)


def test_the_fingerprint_sees_content_and_not_the_place(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.jsonl").write_text("{}")
    one, two = (source(type="files", path=str(tmp_path / folder / "d.jsonl")) for folder in ("one", "two"))
    assert fingerprint(one, "") == fingerprint(two, "")
    (tmp_path / "two" / "d.jsonl").write_text("[]")
    assert fingerprint(one, "") != fingerprint(two, "")


@pytest.mark.parametrize("whole", [True, False])
def test_the_fingerprint_of_a_large_file_sees_content_and_not_the_time(tmp_path, monkeypatch, whole):
    """A copied or downloaded file has another time; a few bytes changed in its middle are another file."""
    if not whole:
        monkeypatch.setattr(fingerprints, "_ALL_WHOLE", 1 << 10)
    prints = []
    for name, change in (("one", b""), ("two", b""), ("three", b"changed")):
        (tmp_path / name).mkdir()
        content = bytearray(b'{"a": 1}\n' * 300_000)
        content[900_000 : 900_000 + len(change)] = change
        (tmp_path / name / "d.jsonl").write_bytes(content)
        prints.append(fingerprint(source(type="files", path=str(tmp_path / name)), ""))
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_sees_another_folder_of_images(tmp_path):
    (tmp_path / "d.jsonl").write_text("{}")
    fields = {"type": "llava", "path": str(tmp_path / "d.jsonl")}
    assert fingerprint(source(**fields, image_root="a"), "") != fingerprint(source(**fields, image_root="b"), "")
    assert fingerprint(source(**fields, image_root="a"), "") != fingerprint(source(**fields), "")


def test_the_fingerprint_of_a_reader_of_ones_own_sees_its_code_and_its_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code, data = tmp_path / "fingerprinted.py", tmp_path / "data.csv"
    code.write_text("raise SystemExit('nobody imports it')")
    data.write_text("1")
    custom = source(type="custom", reader="fingerprinted:read", options={"file": str(data), "count": 3, "word": "x\0"})
    prints = [fingerprint(custom, "")]
    assert fingerprint(custom, "") == prints[0]
    for file in (code, data):
        file.write_text("2")
        prints.append(fingerprint(custom, ""))
    assert prints[0] != prints[1] != prints[2]
    json.dumps(prints)
    assert fingerprint(source(type="custom", reader="not.there:read"), "")["code"] == ""


def test_charts_have_unique_ids_and_disjoint_images():
    rows = list(
        read_source(source(type="charts", name="charts", train_images=40, validation_images=10, test_images=15))
    )
    samples = checked(source(type="charts", name="charts"), rows)
    assert len({sample["sample_id"] for sample in samples}) == len(samples) == 3 * 65
    images = {
        split: {s["image_ids"][0] for s in samples if s["split"] == split} for split in ("train", "validation", "test")
    }
    assert [len(images[split]) for split in ("train", "validation", "test")] == [40, 10, 15]
    assert not images["train"] & images["test"]
    assert not images["train"] & images["validation"]


def test_charts_of_two_seeds_share_no_image_across_splits():
    train = read_source(source(type="charts", name="a", seed=1, train_images=60, test_images=0))
    test = read_source(source(type="charts", name="b", seed=2, train_images=0, test_images=60))
    assert not {r.images[0] for r in train} & {r.images[0] for r in test}


def test_charts_are_the_same_every_time():
    first, second = (list(islice(read_source(source(type="charts", name="charts")), 30)) for _ in range(2))
    assert first == second
