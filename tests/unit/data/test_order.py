"""Order and duplicates from keys, against plain Python on the rows themselves."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest

from masters.data import order
from masters.data.order import Keys


def made(seed, chunks=4, rows=30):
    """Chunks of rows with repeated ids, contents and images; and the same as plain tuples."""
    rng, tables, plain = random.Random(seed), [], []
    for chunk in range(chunks):
        records = []
        for number in range(rng.choice([0, rows])):
            images = [
                f"s/0-{chunk}-{rng.randrange(2)}/{hashlib.sha256(bytes([rng.randrange(9)])).hexdigest()}.png"
                for _ in range(rng.randrange(3))
            ]
            record = {
                "sample_id": f"s/{rng.randrange(60)}",
                "split": rng.choice(order.SPLITS),
                "image_ids": images,
                "content_hash": hashlib.sha256(bytes([rng.randrange(40)])).digest()[:16],
                "row_number": number,
                "reason": rng.choice([None, None, None, "bad"]),
            }
            records.append(record)
            if record["reason"] is None:
                plain.append((chunk, record))
        schema = pa.schema(
            [("sample_id", pa.string()), ("split", pa.string()), ("image_ids", pa.list_(pa.string())), ("content_hash", pa.binary()), ("row_number", pa.int32()), ("reason", pa.string())]
        )  # fmt: skip
        rng.shuffle(records)  # staged rows are in another order than they were read
        tables.append(pa.Table.from_pylist(records, schema))
    keys = Keys.join([Keys.of_chunk(table, seed) for table in tables])
    lookup = {(chunk, record["row_number"]): place for place, (chunk, record) in enumerate(plain)}
    mine = [lookup[key] for key in zip(keys.chunk.tolist(), keys.row.tolist(), strict=True)]
    return keys, [plain[place] for place in mine], mine


@pytest.mark.parametrize("seed", range(12))
def test_the_first_of_equal_ids_of_a_split_stays(seed):
    keys, rows, mine = made(seed)
    seen, expected = {}, [0] * len(rows)
    for place in np.argsort(mine):  # as they were read
        key = (rows[place][1]["split"], rows[place][1]["sample_id"])
        expected[place] = seen.get(key, 0)
        seen[key] = expected[place] + 1
    assert order.occurrences(keys).tolist() == expected


@pytest.mark.parametrize("seed", range(12))
def test_order_content_and_images(seed):
    keys, rows, _ = made(seed)
    kept = order.occurrences(keys) == 0
    for split in order.SPLITS:
        mine = [p for p, (_, row) in enumerate(rows) if row["split"] == split and kept[p]]
        expected = sorted(mine, key=lambda p: order.permutation_key(seed, rows[p][1]["sample_id"]))
        assert order.in_order(keys, kept, split).tolist() == expected
    contents = [(row["split"], row["content_hash"]) for p, (_, row) in enumerate(rows) if kept[p]]
    assert order.equal_content(keys, kept) == len(contents) - len(set(contents))
    names = [
        {i.rpartition("/")[2] for p, (_, r) in enumerate(rows) if kept[p] and r["split"] == s for i in r["image_ids"]}
        for s in order.SPLITS
    ]
    assert order.shared_images(keys, kept, "train", "test") == len(names[0] & names[2])
    assert order.homes(keys, kept).distinct == len(set().union(*names))


@pytest.mark.parametrize("seed", range(12))
def test_an_image_is_kept_where_the_first_kept_row_has_it(seed):
    keys, rows, _ = made(seed)
    kept = order.occurrences(keys) == 0
    homes = order.homes(keys, kept)
    where = {}
    for p, (chunk, row) in enumerate(rows):
        for image_id in row["image_ids"] if kept[p] else ():
            shard, _, name = image_id.rpartition("/")
            place = (chunk, int(shard.rpartition("-")[2]))
            where[name[:32]] = min(where.get(name[:32], place), place)
    digests = [f"{a:016x}{b:016x}" for a, b in keys.image.tolist()]
    for m, digest in enumerate(digests):
        if kept[keys.owner[m]]:
            assert (homes.chunk[m], homes.shard[m]) == where[digest]


def test_nothing_at_all():
    keys = Keys.join([Keys.of_chunk(EMPTY, 0)])
    assert order.occurrences(keys).tolist() == []
    kept = np.ones(0, bool)
    assert (
        order.homes(keys, kept).distinct
        == order.equal_content(keys, kept)
        == order.shared_images(keys, kept, "train", "test")
        == 0
    )


EMPTY = pa.table(
    {"sample_id": pa.array([], pa.string()), "split": pa.array([], pa.string()), "image_ids": pa.array([], pa.list_(pa.string())), "content_hash": pa.array([], pa.binary()), "row_number": pa.array([], pa.int32()), "reason": pa.array([], pa.string())}
)  # fmt: skip


def test_an_id_may_stand_in_every_split():
    rows = {
        "sample_id": ["s/1"] * 3,
        "split": list(order.SPLITS),
        "image_ids": pa.array([[]] * 3, pa.list_(pa.string())),
        "content_hash": [bytes(16)] * 3,
        "row_number": [0, 1, 2],
        "reason": pa.array([None] * 3, pa.string()),
    }
    keys = Keys.join([Keys.of_chunk(pa.table(rows), 0)])
    assert order.occurrences(keys).tolist() == [0, 0, 0]
    assert order.equal_content(keys, np.ones(3, bool)) == 0
