import pyarrow as pa
import pytest

from masters.algo.schedule import level_index
from masters.data.shards import Shard, count, cut, holding, level_range, level_shards, response_seed
from masters.data.storage import Storage
from masters.data.tables import RESPONSES, counted


@pytest.mark.parametrize(("total", "levels"), [(1, 1), (5, 5), (12, 5), (100, 7), (9600, 5), (3, 3)])
def test_level_ranges_are_where_level_index_says(total, levels):
    for level in range(levels):
        start, stop = level_range(level, levels, total)
        assert [p for p in range(total) if level_index(p, total, levels) == level] == list(range(start, stop))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_scheduled_shards_hold_every_sample_once(size):
    names, ratios = ("t@r0.20", "t@r0.10", "t@r0.00"), ("0.20", "0.10", "0.00")
    shards = list(level_shards(names, ratios, 50, size, every=False))
    assert [p for s in shards for p in range(s.start, s.stop)] == list(range(50))
    assert all(s.stop - s.start <= size for s in shards)
    assert [s.ratio for s in shards] == sorted((s.ratio for s in shards), reverse=True)


def test_full_coverage_holds_every_sample_at_every_level():
    shards = list(level_shards(("t@r0.10", "t@r0.00"), ("0.10", "0.00"), 10, 4, every=True))
    assert sum(s.stop - s.start for s in shards) == 20


def test_files_sort_like_positions():
    files = [shard.file("responses") for shard in cut("t@r0.20", "0.20", "train", 0, 30, 10)]
    assert files == sorted(files)
    assert files[0] == "responses/t@r0.20/00000000-00000010.parquet"


def test_seeds_differ_by_run_sample_and_author_and_leave_room_for_children():
    seeds = {
        response_seed(run, sample, author)
        for run in (0, 1)
        for sample in ("a/1", "a/2")
        for author in ("student", "t@r0.20")
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 - 2**16 for seed in seeds)
    assert response_seed(0, "a/1", "student") == response_seed(0, "a/1", "student")


def test_a_shard_is_named_by_author_and_span():
    assert Shard("student", "0.00", "train", 5, 9).file("verdicts") == "verdicts/student/00000005-00000009.parquet"


NAMES = [
    shard.file("responses") for author in ("t@r0.20", "student") for shard in cut(author, "0.20", "train", 0, 25, 10)
]


@pytest.mark.parametrize(
    ("positions", "spans"),
    [
        ([0], ["00-10"]),
        ([9], ["00-10"]),
        ([10], ["10-20"]),
        ([24], ["20-25"]),
        ([25], []),
        ([], []),
        ([24, 3, 4], ["00-10", "20-25"]),
    ],
)
def test_names_say_who_holds_a_position(positions, spans):
    numbers = [span.replace("-", "-000000") for span in spans]
    expected = [f"responses/{author}/000000{span}.parquet" for author in ("t@r0.20", "student") for span in numbers]
    assert holding(NAMES, positions) == expected
    assert holding([], positions) == []


@pytest.fixture
def answered(tmp_path):
    """A run and its shards: 10 + 10 + 5 responses of as many tokens as their positions, by two authors."""
    run = Storage(str(tmp_path))
    shards = [shard for author in ("t@r0.20", "student") for shard in cut(author, "0.20", "train", 0, 25, 10)]
    for shard in shards:
        rows = [
            {"author": shard.author, "token_ids": [1] * p, "finish_reason": "stop"}
            for p in range(shard.start, shard.stop)
        ]
        run.write_table(shard.file("responses"), counted(pa.Table.from_pylist(rows, RESPONSES)))
    return run, shards


def test_counts_come_from_footers_alone(answered, monkeypatch):
    run, shards = answered
    monkeypatch.setattr(Storage, "read_table", lambda *_: pytest.fail("a row was read"))
    expected = {"rows": 25, "tokens": 300, "truncated": 0}
    assert count(run, "responses", shards) == {"t@r0.20": expected, "student": expected}
    assert count(run, "responses", []) == {}


def test_a_table_without_counts_is_counted(answered):
    run, shards = answered
    run.write_table(
        shards[1].file("responses"), run.read_table(shards[1].file("responses")).replace_schema_metadata(None)
    )
    assert count(run, "responses", shards[:3]) == {"t@r0.20": {"rows": 25, "tokens": 300, "truncated": 0}}
