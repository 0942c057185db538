"""The log and checkpoints: whatever an attempt wrote ahead of the checkpoint that training goes on from is forgotten."""

import pytest

from masters.data.metrics import METRICS, REWARDS_FOLDER, read_metrics
from masters.data.storage import Storage
from masters.data.tables import REWARDS
from masters.training.checkpoints import Logbook


def attempt(run, begin, ends, ranks=2):
    """Logs from step `begin` on, written behind each step of `ends`, as a gang that goes back there first."""
    books = [Logbook(run, rank) for rank in range(ranks)]
    for book in books:
        book.go_back(begin)
    for step in range(begin, max(ends)):
        for rank, book in enumerate(books):
            row = {"step": step, "divergence": step / 7, "time_unix": float(step)}
            book.add(row, [{"step": step, "sample_id": f"s/{step}", "author": "student", "index": rank}])
            if step + 1 in ends:
                book.write(step + 1)


ATTEMPTS = {
    # name: what each attempt begins with, and behind which steps it writes; the last one writes behind step 8
    "never cut off": [(0, (4, 8))],
    "from an earlier checkpoint": [(0, (4, 6)), (4, (8,))],
    "from before the first one": [(0, (4,)), (0, (8,))],
    "by the clock, so behind other steps": [(0, (2, 3, 5, 7)), (3, (4, 6)), (4, (5, 8))],
    "behind what is written": [(0, (4,)), (4, (8,))],
}


@pytest.mark.parametrize("name", ATTEMPTS)
@pytest.mark.parametrize("ranks", [(2, 2), (2, 1), (1, 3)])
def test_every_step_is_there_once(tmp_path, name, ranks):
    run = Storage(str(tmp_path))
    for number, (begin, ends) in enumerate(ATTEMPTS[name]):
        attempt(run, begin, ends, ranks[min(number, 1)])
    assert [row["step"] for row in read_metrics(run)] == list(range(8))
    rows = run.read_tables(run.names(REWARDS_FOLDER, ".parquet"), REWARDS)
    found = list(zip(rows["step"].to_pylist(), rows["index"].to_pylist(), strict=True))
    assert len(found) == len(set(found))
    assert {step for step, _ in found} == set(range(8))


def test_rewards_that_were_written_before_any_metrics_are_forgotten_too(tmp_path):
    run = Storage(str(tmp_path))
    attempt(run, 0, (4,))
    run.delete(METRICS)
    Logbook(run, 1).go_back(0)
    assert run.names(REWARDS_FOLDER) != []  # rank 0 does it for all
    Logbook(run, 0).go_back(0)
    assert run.names(REWARDS_FOLDER) == []
