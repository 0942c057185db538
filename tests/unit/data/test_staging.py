"""Chunks that are committed: what is read back of them, and how little for a range of the order."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from masters.data import staging
from masters.data.staging import Ending, chunk_name, commit, committed, read_ending, read_range, read_staged
from masters.data.storage import Storage

CHUNK = chunk_name("photos", 3, 1, 42)
TOP = 2**64 - 1


def table(orders: list[int | None]) -> pa.Table:
    """Rows with these orders; those without are rejects."""
    rows = [
        {
            "row_number": number,
            "row": f"r{number}",
            "order": order,
            **(
                {"reason": "image is corrupt", "detail": "x"}
                if order is None
                else {"sample_id": f"photos/r{number}", "question": "Q" * 50, "history": ["a", "b"], "split": "train"}
            ),
        }
        for number, order in enumerate(orders)
    ]
    return pa.Table.from_pylist(rows, schema=staging.CHECKED)


def orders(count: int, rejects: int = 0, seed: int = 0) -> list[int | None]:
    rng = random.Random(seed)
    found: list[int | None] = [rng.randint(0, TOP) for _ in range(count)] + [None] * rejects
    rng.shuffle(found)
    return found


@pytest.fixture
def run(tmp_path):
    return Storage(str(tmp_path))


def test_names_sort_as_the_chunks_follow_each_other():
    assert CHUNK == "photos/00003-00001-00042"
    places = [(0, 0, 9), (0, 0, 10), (0, 1, 0), (2, 0, 0), (10, 0, 0)]
    names = [chunk_name("photos", *place) for place in places]
    assert names == sorted(names)


@pytest.mark.parametrize("ending", [Ending((0, 512), last=False), Ending((2**40, 7), last=True)])
def test_what_is_committed_is_read_back(run, ending):
    written, summary = table(orders(100, 10)), {"splits": {"train": 100}, "first_missing": " below é: x"}
    commit(run, CHUNK, written, ending, summary)
    assert read_ending(run, CHUNK) == ending
    found, told = read_staged(run, CHUNK)
    assert told == summary
    assert found.schema.equals(staging.CHECKED)
    by_order = sorted(written.to_pylist(), key=lambda row: TOP + 1 if row["order"] is None else row["order"])
    assert found.to_pylist()[:100] == by_order[:100]
    assert sorted(row["row"] for row in found.to_pylist()[100:]) == sorted(row["row"] for row in by_order[100:])


def test_committed_chunks_are_those_of_the_source(run):
    for name in (CHUNK, chunk_name("photos", 3, 1, 43), chunk_name("photos2", 0, 0, 0)):
        commit(run, name, table([1]), Ending((0, 1), last=True), {})
    assert committed(run, "photos") == {CHUNK, chunk_name("photos", 3, 1, 43)}
    assert committed(run, "none") == set()


@pytest.mark.parametrize("rejects", [0, 3, 64, 200])
def test_of_a_range_every_row_is_found_and_only_its_row_groups_are_read(run, monkeypatch, rejects):
    given = orders(512, rejects)
    commit(run, CHUNK, table(given), Ending((0, 0), last=True), {})
    assert run.open_parquet(f"staging/{CHUNK}.parquet").num_row_groups == -(-len(given) // 64)
    known = sorted(order for order in given if order is not None)
    read = []
    whole = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_groups", lambda file, groups: read.append(groups) or whole(file, groups)
    )
    ranges = [(known[first], known[last]) for first, last in [(0, 0), (0, 511), (63, 64), (300, 310), (511, 511)]]
    assert ranges[-1][0] > 2**63
    for low, high in [*ranges, (0, TOP), (2**63, TOP), (0, 2**63 - 1), (known[5] + 1, known[6] - 1)]:
        found = [order for order in read_range(run, CHUNK, low, high)["order"].to_pylist() if order is not None]
        wanted = [order for order in known if low <= order <= high]
        assert [order for order in found if low <= order <= high] == wanted
        places = [known.index(order) // 64 for order in wanted]
        assert len(read.pop()) <= (max(places) - min(places) + 1 if places else 1)


@pytest.mark.parametrize("given", [[], [None], [None] * 130])
def test_a_chunk_without_an_accepted_row_has_no_range(run, given):
    commit(run, CHUNK, table(given), Ending((0, 9), last=True), {"skipped": 4})
    found = read_range(run, CHUNK, 0, TOP)
    assert found.num_rows == 0
    assert found.schema.names == staging.CHECKED.names
    staged, summary = read_staged(run, CHUNK)
    assert (staged.num_rows, summary, read_ending(run, CHUNK)) == (len(given), {"skipped": 4}, Ending((0, 9), True))


def test_equal_chunks_give_equal_bytes(run):
    for name in ("one", "other"):
        commit(run, name, table(orders(200, 5)), Ending((0, 1), last=False), {"skipped": 0})
    assert run.read("staging/one.parquet") == run.read("staging/other.parquet")
