"""What prepare makes of rows, without Ray and without a model: its own functions, one after the other."""

import io
import json

import pyarrow as pa
import pytest

from masters.config.load import validate
from masters.data.storage import Storage
from masters.reporting.progress import Screen
from masters.stages import prepare
from tests.unit.data.test_rows import png

ONE_LEVEL = [{"alias": "t", "path": "t", "r_max": 0.0}]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Prepares LLaVA files, given as {source: records}; one source is of the test split."""
    monkeypatch.setattr(prepare, "_check_prompt", lambda *_: None)

    def work(files, **changes):
        for name, records in files.items():
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
        sources = [
            {"type": "llava", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "split": name} for name in files
        ]
        fields = {"sources": sources, "max_reject_ratio": 0.9}
        recipe = {"name": "x", "student": {"path": "s"}, "curriculum": ONE_LEVEL, "prepare": fields, **changes}
        config, run = validate(recipe), Storage(str(tmp_path / "run"))
        batches = prepare._read({"item": range(len(sources))}, config.prepare.sources)
        tables = [prepare._check(pa.table(batch), config, run) for batch in batches]
        return prepare._finish(pa.concat_tables([prepare._CHECKED.empty_table(), *tables]), config, run)

    return work


def record(number, image=None, **fields):
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]
    return {"id": number, "image": image, "conversations": turns, **fields}


def test_images_that_are_trained_on_and_asked_about_are_counted(prepared, tmp_path):
    for size in (8, 9, 10):
        (tmp_path / f"{size}.png").write_bytes(png(size))
    train = [record(0, "8.png"), record(1, "9.png"), record(2)]
    counts, summary = prepared({"train": train, "test": [record(0, "8.png"), record(1, "8.png"), record(2, "10.png")]})
    assert counts["shared_images"] == 1
    assert summary == "3 train, 3 test samples, 3 images, 0 rejects; 1 image of test is in train, too"
    counts, summary = prepared({"train": train, "test": train})
    assert counts["shared_images"] == 2
    assert summary.endswith("; 2 images of test are in train, too")
    counts, summary = prepared({"train": train, "test": [record(2, "10.png")]})
    assert counts["shared_images"] == 0
    assert summary == "3 train, 1 test samples, 3 images, 0 rejects"
    assert prepared({"train": train}, evaluate={"split": "train"})[0]["shared_images"] == 0


def test_a_source_without_a_row_is_an_error(prepared):
    with pytest.raises(ValueError, match=r"prepare\.sources\[test\]\.path = .*test\.jsonl: gives no row\. Name data"):
        prepared({"train": [record(0)], "test": []})


def test_a_row_that_cannot_travel_between_processes_is_rejected(prepared):
    nested = json.loads("[" * 900 + "]" * 900)
    counts, _ = prepared({"train": [record(0), record(1, question_type=nested), record(2)], "test": [record(0)]})
    assert counts["train"] == 2
    assert counts["rejects"] == {"row cannot be passed on to another process": 1}


def test_progress_has_no_total_that_grows_with_what_is_done(tmp_path, monkeypatch):
    class Dataset:
        def map_batches(self, *_, **__):
            return self

        def iter_batches(self, **_):
            yield pa.Table.from_pylist([{"source": "charts"}] * 3, schema=prepare._CHECKED)

    shown = []
    screen = Screen(io.StringIO())
    screen._line_a_minute = lambda stage: lambda tracker: shown.append(str(tracker))
    monkeypatch.setattr("ray.data.from_items", lambda *_, **__: Dataset())
    monkeypatch.setattr("masters.stages.cluster.connect", lambda: None)
    monkeypatch.setattr(prepare, "_finish", lambda *_: ({}, ""))
    sources = {"sources": [{"type": "charts"}]}
    config = validate({"name": "x", "student": {"path": "s"}, "curriculum": ONE_LEVEL, "prepare": sources})
    prepare.execute(config, Storage(str(tmp_path)), screen)
    assert shown == ["3 rows"]
