"""What prepare makes of rows, without Ray: its own functions, one after the other."""

import io
import json
import os
import pickle
import random

import pyarrow as pa
import pytest
from PIL import Image

from masters.config.load import validate
from masters.data import staging
from masters.data.image_shards import read_image
from masters.data.order import permutation_key
from masters.data.samples import read_split
from masters.data.sources.readers import parts_of
from masters.data.storage import Storage
from masters.data.tables import REJECTS, SAMPLES
from masters.reporting.progress import Screen
from masters.stages import ordering, prepare
from tests.unit.data.test_rows import png

TWO_LEVELS = [{"alias": "t", "path": "t", "r_max": 0.2, "mask_step": 0.2}]


class Preparing:
    """Prepares sources in this process; `printed` is what people read."""

    def __init__(self, folder, student):
        self.folder, self.run = folder, Storage(str(folder / "run"))
        self._student, self._screen = student, io.StringIO()

    @property
    def printed(self):
        return self._screen.getvalue()

    def config(self, sources, **changes):
        fields = {"sources": sources, "max_reject_ratio": changes.pop("max_reject_ratio", 0.9)}
        models = {"student": {"path": str(self._student)}, "curriculum": TWO_LEVELS}
        return validate({"name": "x", **models, "prepare": fields, "engine": {"max_model_len": 2048}, **changes})

    def chunks(self, config):
        """Read and check everything that is not committed; (receipts, rows that were read)."""
        receipts, read = [], 0
        for index, source in enumerate(config.prepare.sources):
            for part in parts_of(source, ""):
                for name, rows, ending in prepare._chunks(source, part, config, self.run):
                    read += len(rows)
                    packed = None if ending is None else pickle.dumps((rows, ending))
                    batch = pa.table({"source": [index], "name": [name], "rows": pa.array([packed], pa.binary())})
                    receipts.append(pickle.loads(prepare._check(batch, config, self.run)["chunk"][0].as_py()))
        return receipts, read

    def __call__(self, sources, **changes):
        config = self.config(sources, **changes)
        for output in prepare.STAGE.outputs:
            self.run.delete(output)
        return ordering.put_in_order(self.chunks(config)[0], config, self.run, Screen(self._screen))

    def files(self, files, **fields):
        """LLaVA files, given as {source: records}; one source is of the test split."""
        for name, records in files.items():
            (self.folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
        return [
            {"type": "files", "name": name, "path": str(self.folder / f"{name}.jsonl"), "split": name, **fields}
            for name in files
        ]


@pytest.fixture
def preparing(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(ordering, "map_tasks", lambda function, items, *told: [function(item, *told) for item in items])
    return Preparing(tmp_path, trained[0])


def record(number, image=None, answer="A cat.", **fields):
    turns = [{"from": "human", "value": f"What is {number}?"}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": image, "conversations": turns, **fields}


def test_images_that_are_trained_on_and_asked_about_are_counted(preparing):
    for size in (8, 9, 10):
        (preparing.folder / f"{size}.png").write_bytes(png(size))
    train = [record(0, "8.png"), record(1, "9.png"), record(2)]
    held_out = [record(0, "8.png"), record(1, "8.png"), record(2, "10.png")]
    counts, summary = preparing(preparing.files({"train": train, "test": held_out}))
    assert counts["shared_images"] == 1
    assert summary == "3 train, 3 test samples, 3 images, 0 rejects; 1 image of test is in train, too"
    counts, summary = preparing(preparing.files({"train": train, "test": train}))
    assert counts["shared_images"] == 2
    assert summary.endswith("; 2 images of test are in train, too")
    counts, summary = preparing(preparing.files({"train": train, "test": [record(2, "10.png")]}))
    assert counts["shared_images"] == 0
    assert summary == "3 train, 1 test samples, 3 images, 0 rejects"
    assert preparing(preparing.files({"train": train}), evaluate={"split": "train"})[0]["shared_images"] == 0


def test_a_source_without_a_row_is_an_error(preparing):
    sources = preparing.files({"train": [record(0)], "test": [record(0, split="skipped")]}, splits={"skipped": "skip"})
    with pytest.raises(ValueError, match=r"prepare\.sources\[test\]\.path = .*test\.jsonl: gives no row\. Name data"):
        preparing(sources)


def test_a_row_that_cannot_travel_between_processes_is_rejected(preparing):
    nested = json.loads("[" * 900 + "]" * 900)
    train = [record(0), record(1, question_type=nested), record(2)]
    counts, _ = preparing(preparing.files({"train": train, "test": [record(0)]}))
    assert counts["train"] == 2
    assert counts["rejects"] == {"row cannot be passed on to another process": 1}


def test_samples_are_in_the_seeded_order_with_their_levels(preparing):
    train = [record(number) for number in range(9)]
    preparing(preparing.files({"train": train, "test": [record(0)]}), seed=5)
    table = read_split(preparing.run, "train")
    assert table.schema.equals(SAMPLES)
    ids = table["sample_id"].to_pylist()
    assert ids == sorted((f"train/{number}" for number in range(9)), key=lambda name: permutation_key(5, name))
    assert table["position"].to_pylist() == list(range(9))
    assert table["levels"].to_pylist() == [["t@r0.20"]] * 5 + [["t@r0.00"]] * 4
    assert read_split(preparing.run, "test")["levels"].to_pylist() == [[]]
    config = preparing.config([{"type": "charts"}])
    counter = prepare.prompt_counter(config.student.path, "HF_TOKEN", config.images)
    assert table["prompt_tokens"].to_pylist() == [counter.prompt(row, []) for row in table.to_pylist()]


@pytest.mark.parametrize("small", [False, True])
def test_chunks_and_tasks_of_any_size_give_the_same_samples(preparing, monkeypatch, small):
    """Also images: equal ones have one id, whichever chunk read them, and each is stored once."""
    rng = random.Random(2)
    for number in range(6):
        content = io.BytesIO()
        Image.effect_noise((20, 20), number * 9).save(content, "PNG")
        (preparing.folder / f"{number}.png").write_bytes(content.getvalue())
    train = [record(number, f"{rng.randrange(6)}.png") for number in range(40)]
    if small:
        monkeypatch.setattr(staging, "ROWS", 3)
        monkeypatch.setattr(ordering, "_TASK_ROWS", 5)
        monkeypatch.setattr(ordering, "FILE_ROWS", 5)
        monkeypatch.setattr("masters.data.samples.FILE_ROWS", 5)
    counts, _ = preparing(preparing.files({"train": train, "test": [record(0, "0.png")]}))
    rows = read_split(preparing.run, "train").to_pylist()
    assert [row["position"] for row in rows] == list(range(40))
    by_content = {}
    for row in rows:
        (image_id,) = row["image_ids"]
        name = train[int(row["sample_id"].partition("/")[2])]["image"]
        assert read_image(preparing.run, image_id) == (preparing.folder / name).read_bytes()
        assert by_content.setdefault(name, image_id) == image_id
    stored = [
        name
        for shard in preparing.run.names("images", ".parquet")
        for name in preparing.run.read_table(shard)["name"].to_pylist()
    ]
    assert len(stored) == len(set(stored)) == counts["images"]
    assert [row["sample_id"] for row in rows] == sorted(
        (row["sample_id"] for row in rows), key=lambda name: permutation_key(0, name)
    )


def test_of_equal_ids_of_a_split_the_first_stays(preparing, monkeypatch):
    monkeypatch.setattr(staging, "ROWS", 2)
    train = [record(number % 4, answer=f"{number}") for number in range(7)]
    counts, _ = preparing(preparing.files({"train": train, "test": [record(1)]}))
    assert (counts["train"], counts["test"]) == (4, 1)  # ids start anew in another split
    assert sorted(read_split(preparing.run, "train")["answer"].to_pylist()) == ["0", "1", "2", "3"]
    rejects = preparing.run.read_tables(preparing.run.names("rejects/prepare"), REJECTS).to_pylist()
    assert [(r["source"], r["row"], r["reason"]) for r in rejects] == [
        ("train", str(number), "id is used twice") for number in range(3)
    ]
    assert "train: 7 rows: 4 train" in preparing.printed


def test_equal_ids_are_told_apart_by_choice(preparing, monkeypatch):
    monkeypatch.setattr(staging, "ROWS", 2)
    train = [record(number % 2, answer=f"{number}") for number in range(5)]
    preparing(preparing.files({"train": train, "test": [record(1)]}, repeated_ids="number"))
    rows = {row["sample_id"]: row["answer"] for row in read_split(preparing.run, "train").to_pylist()}
    assert rows == {"train/0": "0", "train/0~2": "2", "train/0~3": "4", "train/1": "1", "train/1~2": "3"}
    ids = read_split(preparing.run, "train")["sample_id"].to_pylist()
    assert ids == sorted(ids, key=lambda name: permutation_key(0, name))


def test_what_is_committed_is_not_read_again(preparing, monkeypatch):
    monkeypatch.setattr(staging, "ROWS", 3)
    for size in range(8, 12):
        (preparing.folder / f"{size}.png").write_bytes(png(size))
    train = [record(number, f"{8 + number % 4}.png") for number in range(20)]
    train[7]["conversations"] = train[11]["conversations"] = []
    config = preparing.config(preparing.files({"train": train, "test": [record(0)]}))
    whole, read = preparing.chunks(config)
    assert read == 21
    files = {name: preparing.run.read(name) for name in preparing.run.names()}
    for name in ("train/00000-00000-00002", "train/00000-00000-00005"):  # two that a kill lost
        os.unlink(f"{preparing.run.local_path}/staging/{name}.parquet")
    preparing.run.delete(ordering.REJECTS_FOLDER)  # as execute does
    again, read = preparing.chunks(config)
    assert read == 6
    assert {name: preparing.run.read(name) for name in preparing.run.names()} == files
    assert [(c.name, c.summary.to_json()) for c in again] == [(c.name, c.summary.to_json()) for c in whole]
    assert preparing.chunks(config)[1] == 0


WARNED = [
    ([record(n, answer=f"A {n}.") for n in range(3)], "no row has an image"),
    ([record(n, "i.png", "Yes") for n in range(3)], "all answers are equal: Yes"),
    ([record(n, "i.png", "AB"[n % 2]) for n in range(4)], "all answers are one character"),
    ([record(0, "i.png"), record(1, answer="word" + 9 * " word")], "1 answer with more tokens than"),
    ([record(0, "i.png"), record(1, "no.png"), record(2, "nor.png"), record(3, answer="No.")], "2 of 3 images were not found below"),
    ([{**record(0, "i.png"), "id": n} for n in range(3)] + [record(3, answer="No.")], "2 rows: the same as another one"),
    ([record(0, "i.png"), record("x", answer=" No.")], "1 row: answer has blanks around it"),
    ([record(0, "i.png"), record("x", answer="No.")], ""),
]  # fmt: skip


@pytest.mark.parametrize(("train", "words"), WARNED, ids=[words or "nothing" for *_, words in WARNED])
def test_what_is_probably_a_mistake_is_said(preparing, train, words):
    preparing.folder.joinpath("i.png").write_bytes(png())
    lengths = {"generate": {"max_tokens": 8}, "evaluate": {"max_tokens": 8}}
    held_out = [record(0, "i.png", "Red."), record(1, "i.png", "Blue.")]
    preparing(preparing.files({"train": train, "test": held_out}), **lengths)
    warned = [line for line in preparing.printed.splitlines() if line.startswith("warning")]
    assert [words in line for line in warned] == [True] * bool(words)


def test_a_reject_is_shown_with_an_example(preparing):
    train = [record(0), record(1), {**record(7), "conversations": []}]
    preparing(preparing.files({"train": train, "test": [record(0)]}))
    assert "train: 1 reject: conversation is missing (1, for example 7" in preparing.printed
    with pytest.raises(
        ValueError, match=r"max_reject_ratio = 0\.1: 1 of 4 rows cannot be used: conversation is missing"
    ):
        preparing(preparing.files({"train": train, "test": [record(0)]}), max_reject_ratio=0.1)
