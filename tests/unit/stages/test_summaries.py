"""What stages say at their end is counted where it is written, and read without holding it."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pytest

from masters.data.metrics import METRICS
from masters.data.shards import Shard, count
from masters.data.storage import Storage
from masters.data.tables import RESPONSES
from masters.stages import train
from masters.stages.shard_worker import ShardWorker


def test_a_committed_shard_carries_its_counts(tmp_path, monkeypatch):
    run, shard = Storage(str(tmp_path)), Shard("label", "0.00", "train", 0, 2)
    task = SimpleNamespace(stage="generate", folder="responses")
    rows = [
        {"sample_id": f"a/{i}", "author": "label", "token_ids": [1, 2], "finish_reason": "length"} for i in range(2)
    ]
    ShardWorker([task], [None], run)._commit(task, shard, pa.Table.from_pylist(rows, RESPONSES), [])
    monkeypatch.setattr(Storage, "read_table", lambda *_: pytest.fail("a row was read"))
    assert count(run, task.folder, [shard]) == {"label": {"rows": 2, "tokens": 4, "truncated": 2}}


STEPS = [{"step": i, "divergence": 1.0 - i / 100, "kl_nats": i / 100, "n_dropped": float(i == 50)} for i in range(100)]
SUMMARIES = {
    "a tenth at each end": (
        STEPS,
        "100 steps, jsd 0.955 -> 0.055, kl 0.045 -> 0.945, 1 responses dropped: they hold",
        1,
    ),
    "fewer than ten": (STEPS[:3], "3 steps, jsd 1.000 -> 0.980, kl 0.000 -> 0.020", 0),
    "cross-entropy": ([{"loss_sft": 2.0}, {"loss_sft": 1.0}], "2 steps, nll 2.000 -> 1.000", 0),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_training_in_one_line(name, tmp_path):
    rows, words, dropped = SUMMARIES[name]
    run = Storage(str(tmp_path))
    run.write(METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    counts, said = train._summary(run, len(rows))
    assert counts == {"steps": len(rows), "dropped": dropped}
    assert said.startswith(words)
