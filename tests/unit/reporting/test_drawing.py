"""Rewards for the plots: all of a small run, an even share of a large one."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from masters.data.metrics import REWARDS_FOLDER
from masters.data.storage import Storage
from masters.data.tables import REWARDS
from masters.reporting.drawing import draw_rewards

LEVELS, TABLES, RANKS, ROWS = 5, 400, 4, 40
TOTAL = TABLES * RANKS * ROWS


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with the rewards of five levels, half of them the student's, and its metrics. D grows from 0 to 1 over training."""
    run = Storage(str(tmp_path_factory.mktemp("run")))
    for table in range(TABLES):
        authors = ["student", f"big@r0.{LEVELS * table // TABLES}0"] * (ROWS // 2)
        for rank in range(RANKS):
            columns = {
                "author": authors,
                "divergence": np.full(ROWS, table / TABLES, np.float32),
                "distill_reward": np.full(ROWS, rank, np.float32),
                "advantage": np.arange(ROWS, dtype=np.float32),
            }
            blank = {name: pa.nulls(ROWS, REWARDS.field(name).type) for name in REWARDS.names if name not in columns}
            name = f"{REWARDS_FOLDER}/{table + 1:08d}-{rank:04d}.parquet"
            run.write_table(name, pa.table({key: (columns | blank)[key] for key in REWARDS.names}, schema=REWARDS))
    return run, [{"n_responses": float(RANKS * ROWS)}] * TABLES


def test_nothing_is_left_out_where_there_are_few(trained):
    run, metrics = trained
    drawn, total = draw_rewards(run, metrics, TOTAL, 0)
    assert drawn.num_rows == total == TOTAL
    whole = run.read_tables(run.names(REWARDS_FOLDER), REWARDS)
    assert drawn.equals(whole.select(drawn.column_names))


@pytest.mark.parametrize("wanted", [2_000, 8_000])
def test_of_many_an_even_share_is_drawn(trained, wanted):
    run, metrics = trained
    drawn, total = draw_rewards(run, metrics, wanted, 0)
    assert total == TOTAL
    assert drawn.num_rows == pytest.approx(wanted, rel=0.1)
    authors = Counter(drawn["author"].to_pylist())
    assert authors["student"] == pytest.approx(drawn.num_rows / 2, rel=0.1)
    for level in range(LEVELS):
        assert authors[f"big@r0.{level}0"] == pytest.approx(drawn.num_rows / 2 / LEVELS, rel=0.25)
    ranks = Counter(drawn["distill_reward"].to_pylist())
    assert all(ranks[rank] == pytest.approx(drawn.num_rows / RANKS, rel=0.25) for rank in range(RANKS))
    assert np.mean(drawn["divergence"].to_numpy()) == pytest.approx(0.5, abs=0.02)


def test_of_many_few_tables_are_read(trained, monkeypatch):
    run, metrics = trained
    read, whole = [], Storage.read_table
    monkeypatch.setattr(
        Storage, "read_table", lambda self, name, columns: read.append(name) or whole(self, name, columns)
    )
    draw_rewards(run, metrics, 2_000, 0)
    assert len(read) == len(set(read)) == 256 < TABLES * RANKS


def test_the_seed_decides(trained):
    run, metrics = trained
    one, again, other = (draw_rewards(run, metrics, 2_000, seed)[0] for seed in (0, 0, 1))
    assert one.equals(again)
    assert not one.equals(other)


def test_a_run_without_rewards(tmp_path):
    drawn, total = draw_rewards(Storage(str(tmp_path)), [{"step": 0}], 100, 0)
    assert (drawn.num_rows, total) == (0, 0)
