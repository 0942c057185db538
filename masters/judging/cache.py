"""Verdicts that runs share, by content: what was asked is the name of its answer."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from masters.data.storage import Storage
from masters.judging.judges import Item, Verdict

CACHED = pa.schema(
    [
        ("place", pa.uint64()),  # the first half of the key, for the index
        ("key", pa.string()),
        ("verdict", pa.int8()),  # 1 or 0; a null is asked again
        ("explanation", pa.string()),
    ]
)


def verdict_key(item: Item) -> str:
    """What a prompted judge is told: question, ground truth and response. 32 hexadecimal digits."""
    told = json.dumps([item.question, item.ground_truth, item.response]).encode()
    return hashlib.sha256(told).hexdigest()[:32]


def add_verdicts(folder: Storage, judge: str, rows: Sequence[tuple[str, int, str]]) -> None:
    """Add (key, verdict, explanation) of one judge as a file named by its content; it never changes."""
    unique = sorted({key: (key, *said) for key, *said in reversed(rows)}.values())
    if not unique:
        return
    name = hashlib.sha256(json.dumps(unique).encode()).hexdigest()[:16]
    keys, verdicts, explanations = zip(*unique, strict=True)
    places = [int(key[:16], 16) for key in keys]
    folder.add_table(f"{judge}/{name}.parquet", pa.table([places, keys, verdicts, explanations], schema=CACHED))


class VerdictCache:
    """Some files of the folder, which stay the same: what is added later is not seen.

    In memory are 12 bytes for each verdict; explanations are read when they are wanted.
    """

    def __init__(self, folder: Storage, names: Sequence[str]):
        self._folder, self._names = folder, names
        columns = list(folder.each(lambda name: folder.read_table(name, ["place"])["place"].to_numpy(), list(names)))
        places = np.concatenate([np.empty(0, np.uint64), *columns])
        files = np.repeat(np.arange(len(columns), dtype=np.int32), [len(column) for column in columns])
        order = np.argsort(places, kind="stable")  # of equal ones the first file's
        self._places, self._files = places[order], files[order]

    def find(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """Verdicts by key; those that are not there are left out."""
        places = np.array([int(key[:16], 16) for key in keys], np.uint64)
        at = np.searchsorted(self._places, places)
        held = [
            int(i) for place, i in zip(places, at, strict=True) if i < len(self._places) and self._places[i] == place
        ]
        wanted, found = pa.array(keys, pa.string()), dict[str, Verdict]()
        for file in sorted({int(self._files[i]) for i in held}):
            table = self._folder.read_table(self._names[file], ["key", "verdict", "explanation"])
            for row in table.filter(pa.compute.is_in(table["key"], wanted)).to_pylist():
                found.setdefault(row["key"], Verdict(row["verdict"], row["explanation"]))
        return found
