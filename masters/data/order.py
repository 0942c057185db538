"""The order of samples, repeated ids and images, from keys alone: some 70 bytes a row, never the rows themselves.

A row's keys are numbers: its split, its place in the seeded permutation, and hashes of its id and content. Rows are named by
(chunk, row); chunks are numbered in the order of the sources, so the smaller name came first.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

SPLITS = ("train", "validation", "test")
Array = np.ndarray


def permutation_key(seed: int, sample_id: str) -> int:
    """Sorting samples by it is the seeded permutation: 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{sample_id}".encode()).digest()[:8], "big")


def id_hashes(sample_ids: Sequence[str]) -> Array:
    """128 bits of each id: [n, 2] uint64."""
    return _halves([hashlib.sha256(sample_id.encode()).digest()[:16] for sample_id in sample_ids])


def mixed(values: Array) -> Array:
    """SplitMix64's last steps: uint64 of any shape, each to another number that all its bits decide."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Keys:
    """Keys of accepted rows [n] and of their images [m]; 128-bit hashes are two uint64 beside each other.

    Attributes:
        chunk: [n] int32.
        row: [n] int32, in the chunk.
        split: [n] int8, place in SPLITS.
        order: [n] uint64, `permutation_key`.
        id: [n, 2] uint64, hash of the sample id.
        content: [n, 2] uint64, hash of all that is asked and answered.
        owner: [m] int64, place of the image's row among the n.
        place: [m] int16, of the image among those of its row.
        shard: [m] int16, of the chunk's image shards.
        image: [m, 2] uint64, hash of the image's content.
    """

    chunk: Array
    row: Array
    split: Array
    order: Array
    id: Array
    content: Array
    owner: Array
    place: Array
    shard: Array
    image: Array

    @classmethod
    def of_chunk(cls, table: pa.Table, seed: int) -> "Keys":
        """Of the rows of one chunk, as prepare stages them; `chunk` is 0 until they are joined."""
        accepted = table.filter(pa.compute.is_null(table["reason"]))
        ids = accepted["sample_id"].to_pylist()
        images = [
            (owner, place, int(shard.rpartition("-")[2]), bytes.fromhex(name[:32]))
            for owner, names in enumerate(accepted["image_ids"].to_pylist())
            for place, (shard, _, name) in enumerate(image_id.rpartition("/") for image_id in names)
        ]
        return cls(
            chunk=np.zeros(len(ids), np.int32),
            row=accepted["row_number"].to_numpy().astype(np.int32),
            split=np.array([SPLITS.index(split) for split in accepted["split"].to_pylist()], np.int8),
            order=np.array([permutation_key(seed, sample_id) for sample_id in ids], np.uint64),
            id=id_hashes(ids),
            content=_halves(accepted["content_hash"].to_pylist()),
            owner=np.array([image[0] for image in images], np.int64),
            place=np.array([image[1] for image in images], np.int16),
            shard=np.array([image[2] for image in images], np.int16),
            image=_halves([image[3] for image in images]),
        )

    @classmethod
    def join(cls, chunks: Sequence["Keys"]) -> "Keys":
        """Of all rows, from those of the chunks in order."""
        starts = np.cumsum([0, *(len(keys.row) for keys in chunks)])
        columns = {field.name: [getattr(keys, field.name) for keys in chunks] for field in fields(cls)}
        columns["chunk"] = [np.full(len(keys.row), number, np.int32) for number, keys in enumerate(chunks)]
        columns["owner"] = [keys.owner + start for keys, start in zip(chunks, starts, strict=False)]
        return cls(**{name: np.concatenate(parts) for name, parts in columns.items()})


def occurrences(keys: Keys) -> Array:
    """How many earlier rows of the split have the same id: [n] int64, 0 for the first."""
    sequence = np.lexsort((keys.row, keys.chunk, keys.id[:, 1], keys.id[:, 0], keys.split))
    same = np.zeros(len(sequence), bool)
    same[1:] = (keys.id[sequence[1:]] == keys.id[sequence[:-1]]).all(1)
    same[1:] &= keys.split[sequence[1:]] == keys.split[sequence[:-1]]
    place = np.arange(len(sequence))
    first = np.maximum.accumulate(np.where(same, 0, place))
    found = np.empty(len(sequence), np.int64)
    found[sequence] = place - first
    return found


def equal_content(keys: Keys, kept: Array) -> int:
    """How many kept rows say the same as an earlier row of their split, under another id."""
    whole = np.column_stack([keys.split.astype(np.uint64), keys.content])[kept]
    return len(whole) - len(np.unique(whole, axis=0))


def in_order(keys: Keys, kept: Array, split: str) -> Array:
    """Places among the n of the kept rows of a split, in the order of their positions."""
    mine = np.flatnonzero(kept & (keys.split == SPLITS.index(split)))
    return mine[np.lexsort((keys.id[mine, 1], keys.id[mine, 0], keys.order[mine]))]


@dataclass(frozen=True)
class Homes:
    """Where each image of a run is kept: in the shard of the first kept row that has it.

    Attributes:
        chunk: [m] int32, of the image's home.
        shard: [m] int16, likewise.
        distinct: how many images differ.
    """

    chunk: Array
    shard: Array
    distinct: int


def homes(keys: Keys, kept: Array) -> Homes:
    """The home of every image; those of rows that are not kept have one only where another row has them, too."""
    chunk = keys.chunk[keys.owner]
    mine = kept[keys.owner]
    sequence = np.lexsort((keys.shard, chunk, ~mine, keys.image[:, 1], keys.image[:, 0]))
    first = np.ones(len(sequence), bool)
    first[1:] = (keys.image[sequence[1:]] != keys.image[sequence[:-1]]).any(1)
    leader = sequence[np.maximum.accumulate(np.where(first, np.arange(len(sequence)), 0))]
    home_chunk, home_shard = np.empty(len(sequence), np.int32), np.empty(len(sequence), np.int16)
    home_chunk[sequence], home_shard[sequence] = chunk[leader], keys.shard[leader]
    return Homes(home_chunk, home_shard, int(mine[sequence[first]].sum()))


def shared_images(keys: Keys, kept: Array, one: str, other: str) -> int:
    """How many images rows of both splits have."""
    split = keys.split[keys.owner]
    mine = kept[keys.owner]
    sets = [np.unique(keys.image[mine & (split == SPLITS.index(name))], axis=0) for name in (one, other)]
    both = np.concatenate(sets)
    return len(both) - len(np.unique(both, axis=0))


def _halves(digests: Sequence[bytes]) -> Array:
    return np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64)
