"""The log as TensorBoard reads it: `tensorboard --logdir RUN/train/tensorboard`.

Files are made from the rows of metrics.jsonl, one for the steps between two checkpoints. So each step is written once however
long the run is, no step is there twice after a resume, and files appear whole in any storage, where event files that grow
cannot.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masters.data.metrics import scalars
from masters.data.storage import Storage

FOLDER = "train/tensorboard"
_NAME = re.compile(r"/steps-(\d+)-(\d+)\.tfevents$")


def write_events(run: Storage, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write those rows, of all since step 0, that no file holds yet."""
    written = max(_spans(run).values(), default=0)
    new = [row for row in rows if row["step"] >= written]
    if new:
        name = f"{FOLDER}/steps-{new[0]['step']:08d}-{new[-1]['step'] + 1:08d}.tfevents"
        run.write(name, _events(new))


def forget_events(run: Storage, step: int) -> None:
    """Delete the files that hold `step` or later ones, before these are done again; earlier rows in them will be written anew."""
    for name, stop in _spans(run).items():
        if stop > step:
            run.delete(name)


def _spans(run: Storage) -> dict[str, int]:
    """Name of each file, and the step before which it ends."""
    found = {name: _NAME.search(name) for name in run.names(FOLDER)}
    return {name: int(match[2]) for name, match in found.items() if match}


def _events(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One event a step with all its numbers: a tenth of the bytes and of the time of one event a number."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    begin, first = rows[0]["time_unix"], rows[0]["step"]
    events = [
        Event(wall_time=begin, file_version="brain.Event:2"),
        # A TensorBoard that is open since before a resume forgets what it read of these steps.
        Event(wall_time=begin, step=first, session_log=SessionLog(status=SessionLog.START)),
    ]
    for row in rows:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row).items()]
        events.append(Event(wall_time=row["time_unix"], step=row["step"], summary=Summary(value=values)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events"
        writer = RecordWriter(str(file))
        for event in events:
            writer.write(event.SerializeToString())
        writer.close()
        return file.read_bytes()
