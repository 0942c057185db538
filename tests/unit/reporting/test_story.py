import io

import pyarrow as pa
import pytest
from rich.console import Console

from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, RESPONSES, SAMPLES
from masters.reporting.story import read_stories, tell

TEXTS = [r"The area is \[x=2\] so 4", r"see \[/INST] end", "[/b] :smile:"]
SAMPLE = {
    "sample_id": "a/[/b]1", "split": "train", "position": 0, "levels": ["big@r0.20"], "image_ids": [], "system": "",
    "history": [], "question": "[red]What?", "answers": ["4"],
}  # fmt: skip


def write(run, name, schema, rows):
    run.write_table(name, pa.Table.from_pylist(rows, schema))


def response(index, text, sample_id=SAMPLE["sample_id"]):
    return {"sample_id": sample_id, "author": "student", "index": index, "text": text, "finish_reason": "length"}


@pytest.fixture
def run(tmp_path):
    run = Storage(str(tmp_path))
    run.write_json("run.json", {})
    write(run, "samples/0.parquet", SAMPLES, [SAMPLE])
    write(run, "responses/student/0.parquet", RESPONSES, [response(i, text) for i, text in enumerate(TEXTS)])
    return run


def test_texts_are_shown_as_they_are(run):
    stream = io.StringIO()
    tell(run, SAMPLE["sample_id"], Console(file=stream, width=200, emoji=False))
    said = stream.getvalue()
    assert "a/[/b]1  train, position 0  big@r0.20" in said
    assert "question  [red]What?" in said
    for text in TEXTS:
        assert f"{text} [cut off]" in said


def test_what_is_left_of_samples_of_an_earlier_recipe_is_skipped(run):
    write(run, "responses/student/1.parquet", RESPONSES, [response(0, "old", "gone/1")])
    answer = {"sample_id": "gone/1", "text": "old", "correct": True}
    write(run, "evaluation/student/predictions.parquet", PREDICTIONS, [answer])
    assert [len(story.responses) for story in read_stories(run, ["gone/1", SAMPLE["sample_id"]])] == [3]
    with pytest.raises(ValueError, match="gone/1: no such sample in"):
        tell(run, "gone/1")


def test_a_folder_of_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none: is no run directory: run.json is not there\. `masters check RECIPE`"):
        tell(Storage(str(tmp_path / "none")), "x/1")
