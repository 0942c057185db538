"""prepare dies by SIGKILL at three random moments, and goes on: the same samples, and no committed chunk is made again."""

import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from masters.data.samples import read_split
from masters.data.sources.charts import scenes
from masters.data.storage import Storage
from tests.stages.conftest import masters
from tests.stages.test_kill import kill_when

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


def write_recipe(folder, student):
    """Three sources of several chunks each: lines with image files, an array, tables with images in them."""
    drawn = []
    for number, (_, scene) in zip(range(60), scenes(5, "train"), strict=False):
        scene.image.save(folder / f"{number}.png")
        drawn.append((f"{number}.png", scene.questions))
    asked = [(name, question) for name, questions in drawn for question in questions] * 12
    lines = [
        {
            "id": number,
            "image": name,
            "messages": [{"role": "user", "content": q.text}, {"role": "assistant", "content": q.answers[0]}],
        }
        for number, (name, q) in enumerate(asked)
    ]
    lines[700] = {"id": 700, "messages": []}
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "array.json").write_text(json.dumps(lines[:1300]))
    rows = [
        {"id": n, "question": q.text, "answer": list(q.answers), "image": (folder / name).read_bytes()}
        for n, (name, q) in enumerate(asked[:2500])
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet", row_group_size=1100)
    sources = [
        {"type": "files", "name": name.partition(".")[0], "path": str(folder / name), "split": split}
        for name, split in (("lines.jsonl", "train"), ("array.json", "test"), ("table.parquet", "train"))
    ]
    recipe = {
        "name": "killed",
        "student": {"path": str(student)},
        "curriculum": [{"alias": "big", "path": str(student), "r_max": 0.2, "mask_step": 0.1}],
        "prepare": {"sources": sources},
        "generate": {"max_tokens": 16},
        "score": {"judge": {"type": "rule"}},
        "evaluate": {"max_tokens": 16},
        "engine": {"max_model_len": 256},
    }
    (folder / "killed.yaml").write_text(json.dumps(recipe))
    return folder / "killed.yaml"


def made(run):
    """When each committed chunk was made."""
    names = run.names("staging", ".parquet")
    return {name: os.stat(f"{run.local_path}/{name}").st_mtime_ns for name in names}


def test_three_kills_change_nothing_and_nothing_committed_is_made_again(tmp_path, trained):
    recipe = write_recipe(tmp_path, trained[0])
    masters("prepare", recipe, "--set", f"storage={tmp_path}/whole")
    whole, run = Storage(f"{tmp_path}/whole/killed"), Storage(f"{tmp_path}/parts/killed")
    moments, before = random.Random().choices(range(1, 4), k=3), {}
    for more in moments:
        wanted = len(before) + more

        def reached(wanted=wanted):
            return len(run.names("staging", ".parquet")) >= wanted

        assert kill_when(reached, recipe, tmp_path / "parts", command="prepare") == []
        now = made(run)
        assert before.items() <= now.items(), moments
        before = now
    done = masters("prepare", recipe, "--set", f"storage={tmp_path}/parts")
    assert "prepare   continuing where it stopped" in done.stdout
    assert run.names("staging") == []
    for folder in ("samples", "images", "rejects"):
        names = whole.names(folder)
        assert run.names(folder) == names
        assert names
        for name in names:
            assert run.read(name) == whole.read(name), (name, moments)
    assert read_split(run, "train").num_rows > 4000
