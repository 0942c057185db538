"""From tables of all authors together, in which equal responses were judged once, to one table for each author and shard."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.config.resources import TaskResources
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import VERDICTS, counted
from masters.stages.cluster import connect, remote_options
from masters.stages.score_task import JUDGED

_BLOCKS = 1000


def finish(
    run: Storage,
    parts: Sequence[tuple[Shard, Sequence[str]]],
    judges: Mapping[str, str],
    folder: str | None,
    resources: TaskResources,
) -> None:
    """Write the verdicts of shards, and add what judges said to the folder that runs share, if there is one.

    Args:
        run: holds the tables of all authors together.
        parts: shards of responses, each with the names of the tables that hold its samples.
        judges: the judge of each table, as the folder knows it.
        folder: path or address.
        resources: of a task.
    """
    rows = [{"file": shard.file(""), "author": shard.author, "judged": list(names)} for shard, names in parts]
    if folder:
        rows += [{"file": "", "author": judge, "judged": [name]} for name, judge in judges.items()]
    if not rows:
        return
    import ray.data

    connect()
    function = functools.partial(_finish, run=run, folder=folder)
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS))
    for _ in dataset.map(function, **remote_options(resources)).iter_rows():
        pass


def _finish(row: dict[str, Any], run: Storage, folder: str | None) -> dict[str, Any]:
    if row["file"]:
        return {"rows": _take_apart(row, run)}
    assert folder is not None
    return {"rows": _share(row["judged"][0], row["author"], run, Storage(folder))}


def _take_apart(row: Mapping[str, Any], run: Storage) -> int:
    """A shard's verdicts in the order of its responses; a sample that the judge's engine fails on has none."""
    known = {}
    for name in row["judged"]:
        table = run.read_table(name, VERDICTS.names)
        for verdict in table.filter(pc.equal(table["author"], row["author"])).to_pylist():
            known[verdict["sample_id"], verdict["index"]] = verdict
    responses = run.read_table(f"responses{row['file']}", ["sample_id", "index"]).to_pylist()
    found = [known.get((response["sample_id"], response["index"])) for response in responses]
    table = pa.Table.from_pylist([verdict for verdict in found if verdict], schema=VERDICTS)
    run.add_table(f"verdicts{row['file']}", counted(table))
    return table.num_rows


def _share(name: str, judge: str, run: Storage, folder: Storage) -> int:
    """Only what the judge itself said here; nulls are asked again."""
    from masters.judging.cache import add_verdicts

    table = run.read_table(name, JUDGED.names)
    ours = pc.and_(pc.is_valid(table["verdict"]), pc.is_valid(table["key"]))
    said = table.filter(pc.and_(ours, pc.invert(pc.match_substring(table["judge"], "("))))
    rows = [(verdict["key"], verdict["verdict"], verdict["explanation"]) for verdict in said.to_pylist()]
    add_verdicts(folder, judge, rows)
    return len(rows)
