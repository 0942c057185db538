import pyarrow as pa
import pytest

from masters.data.samples import write_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import RESPONSES, SAMPLES, VERDICTS
from masters.training.curriculum import Step
from masters.training.groups import GroupReader, shards_of


def table(rows, schema):
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


@pytest.fixture
def run(tmp_path):
    """Ten samples; two level shards, three student shards; one response empty, one verdict null, one missing author."""
    run = Storage(str(tmp_path))
    write_samples(
        run,
        "train",
        table(
            [{"sample_id": f"s/{i}", "position": i, "levels": ["t@r0.20"], "history": []} for i in range(10)],
            SAMPLES,
        ),
    )
    for shard in (
        Shard("t@r0.20", "0.20", "train", 0, 5),
        Shard("t@r0.00", "0.00", "train", 5, 10),
        *(Shard("student", "0.00", "train", i, min(10, i + 4)) for i in (0, 4, 8)),
    ):
        keys = [
            (f"s/{i}", index)
            for i in range(shard.start, shard.stop)
            for index in (0, 1)
            if not (i == 3 and shard.author == "student")
        ]
        rows = [
            {
                "sample_id": s,
                "author": shard.author,
                "index": i,
                "text": "" if (s, i) == ("s/1", 1) else f"{shard.author} {s}",
                "token_ids": [5, 2],
                "finish_reason": "stop",
            }
            for s, i in keys
        ]
        run.write_table(shard.file("responses"), table(rows, RESPONSES))
        verdicts = [
            {"sample_id": s, "author": shard.author, "index": i, "verdict": None if s == "s/2" else i} for s, i in keys
        ]
        run.write_table(shard.file("verdicts"), table(verdicts, VERDICTS))
    return run


def step(start, stop, level="t@r0.20"):
    return Step(0, 0, level, level[-4:], start, stop)


def reader(run):
    return GroupReader(run, shards_of(run.names("responses", ".parquet")), [100])


def test_groups_come_in_position_order_with_the_levels_responses_first(run):
    groups = reader(run).groups(step(0, 2))
    assert [g.sample["sample_id"] for g in groups] == ["s/0", "s/1"]
    assert [(r.author, r.index) for r in groups[0].responses] == [
        ("t@r0.20", 0),
        ("t@r0.20", 1),
        ("student", 0),
        ("student", 1),
    ]
    assert [r.verdict for r in groups[0].responses] == [0, 1, 0, 1]


def test_empty_responses_are_left_out_and_null_verdicts_stay(run):
    _, second, third = reader(run).groups(step(0, 3))
    assert [(r.author, r.index) for r in second.responses] == [("t@r0.20", 0), ("student", 0)]
    assert [r.verdict for r in third.responses] == [None] * 4


def test_a_sample_that_an_author_did_not_answer_keeps_the_others(run):
    (group,) = reader(run).groups(step(3, 4))
    assert {r.author for r in group.responses} == {"t@r0.20"}


def test_steps_read_only_the_shards_they_need_and_any_order_gives_the_same(run):
    forward = reader(run)
    parts = [
        forward.groups(step(0, 3)),
        forward.groups(step(3, 5)),
        forward.groups(step(5, 8, "t@r0.00")),
        forward.groups(step(8, 10, "t@r0.00")),
    ]
    assert parts[2] == reader(run).groups(step(5, 8, "t@r0.00"))
    assert [len(p) for p in parts] == [3, 2, 3, 2]


def test_a_response_with_an_id_outside_the_vocabulary_is_dropped_and_counted(run):
    (name,) = [name for name in run.names("responses/student") if "00000000" in name]
    rows = run.read_table(name).to_pylist()
    rows[0]["token_ids"], rows[2]["token_ids"] = [5, 7, 2], [99, 2]
    run.write_table(name, pa.Table.from_pylist(rows, schema=RESPONSES))
    shards = shards_of(run.names("responses", ".parquet"))
    counted = {}
    for vocabulary in (100, 99, 7):
        groups = GroupReader(run, shards, [vocabulary]).groups(step(0, 5))
        counted[vocabulary] = (sum(group.dropped for group in groups), sum(len(group.responses) for group in groups))
        assert all(token < vocabulary for group in groups for r in group.responses for token in r.token_ids)
    assert [dropped for dropped, _ in counted.values()] == [0, 1, 2]
    assert len({dropped + kept for dropped, kept in counted.values()}) == 1
    of_second = GroupReader(run, shards, [100, 7]).groups(Step(0, 1, "t@r0.20", "0.20", 0, 5))
    assert sum(group.dropped for group in of_second) == 2
