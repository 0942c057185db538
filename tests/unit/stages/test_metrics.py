"""What is counted for which shard; Ray's own metric objects are replaced by ones that remember."""

import time
from dataclasses import asdict

import pyarrow as pa
import pytest

from masters.reporting.progress import Tracker
from masters.stages import metrics


class Remembered:
    def __init__(self):
        self.calls = []

    def __call__(self, name):
        assert name in metrics.COUNTERS or name in metrics.GAUGES
        tags = {**metrics.COUNTERS, **metrics.GAUGES}[name][1]

        def record(value, labels):
            assert set(labels) == set(tags)
            self.calls.append((name, value, *labels.values()))

        return type("Metric", (), {"inc": staticmethod(record), "set": staticmethod(record)})


@pytest.fixture
def calls(monkeypatch):
    remembered = Remembered()
    monkeypatch.setattr(metrics, "_metric", remembered)
    return remembered.calls


def test_responses_and_their_tokens(calls):
    metrics.count_shard("generate", "big@r0.20", pa.table({"token_ids": pa.array([[1, 2], [3], []])}), 1)
    assert calls == [
        ("masters_rows", 3, "generate", "done"), ("masters_rows", 1, "generate", "rejected"), ("masters_tokens", 3, "big@r0.20"),
    ]  # fmt: skip


def test_null_verdicts(calls):
    metrics.count_shard("score", "student", pa.table({"verdict": pa.array([1, None, 0, None], pa.int8())}), 0)
    assert calls == [("masters_rows", 4, "score", "done"), ("masters_rows", 2, "score", "null")]


def test_an_empty_shard_counts_nothing(calls):
    metrics.count_shard("generate", "x", pa.table({"token_ids": pa.array([], pa.list_(pa.int32()))}), 0)
    assert calls == []


def test_progress_and_the_terms_of_a_step_are_set_again_and_again(calls, monkeypatch):
    monkeypatch.setattr(metrics, "_AGAIN", 0.01)
    tracker = Tracker(9, "steps", 0, lambda _: None)
    with metrics.showing("train", tracker) as show_terms:
        tracker.advance(3)
        costs = {"time_data": 2.0, "time_unix": 1e9, "tokens_per_second": 8e3, "peak_memory_gib": 1.5}
        show_terms({"step": 3, "level": "big@r0.20", "loss_kl": 0.5, "lr": 1e-6, "loss_policy": -0.25, **costs})
        deadline = time.monotonic() + 10
        while calls.count(("masters_stage_rows", 3, "train", "done")) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert calls[0] == ("masters_stage_rows", 0, "train", "done")
    assert calls.count(("masters_stage_rows", 3, "train", "done")) > 3
    assert calls[-7:] == [
        ("masters_stage_rows", 3, "train", "done"), ("masters_stage_rows", 9, "train", "wanted"),
        ("masters_train_loss", 0.5, "kl"), ("masters_train_loss", -0.25, "policy"), ("masters_train_seconds", 2.0, "data"),
        ("masters_train_tokens_per_second", 8e3), ("masters_train_peak_memory_gib", 1.5),
    ]  # fmt: skip
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count


def test_a_shard_that_was_begun_by_a_dead_actor_is_a_lost_attempt(calls, tmp_path):
    from masters.data.shards import Shard
    from masters.data.storage import Storage
    from masters.data.trials import Trial
    from masters.stages.shard_worker import ShardWorker

    class Task:
        stage, folder = "generate", "responses"

        def rows(self, run, shard):
            return [{"sample_id": "a"}]

        def compute(self, shard, rows, ready):
            return pa.table({"token_ids": pa.array([[1, 2]])})

    run, shard = Storage(str(tmp_path)), Shard("student", "0.00", "train", 0, 1)
    run.write_json("failures/generate/student-00000000.json", Trial().start([0]).to_json())
    batch = pa.Table.from_pylist([{"job": 0, "place": 0, **asdict(shard)}])
    ShardWorker([Task()], [None], run)(batch)
    assert ("masters_lost_attempts", 1, "generate") in calls
    assert ("masters_tokens", 2, "student") in calls
    calls.clear()
    ShardWorker([Task()], [None], run)(batch)
    assert "masters_lost_attempts" not in [call[0] for call in calls]
