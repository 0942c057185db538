"""TensorBoard files hold every step once, whatever was cut off, resumed and written again. They were tried with TensorBoard 2.x."""

import struct

import pytest

from masters.data.metrics import scalars
from masters.data.storage import Storage
from masters.training.event_files import FOLDER, forget_events, write_events

# ("train", n): steps until n are there and written; ("resume", n): from the checkpoint behind n steps.
STORIES = {
    "one piece": [("train", 5)],
    "every checkpoint": [("train", 2), ("train", 4), ("train", 5)],
    "written twice": [("train", 3), ("train", 3), ("train", 5)],
    "killed before the checkpoint was kept": [("train", 2), ("train", 4), ("resume", 2), ("train", 3), ("train", 5)],
    "one step behind the checkpoint": [("train", 2), ("train", 3), ("resume", 2), ("train", 5)],
    "back to the beginning": [("train", 2), ("train", 4), ("resume", 0), ("train", 5)],
    "nothing is lost by a resume": [("train", 2), ("resume", 2), ("train", 5)],
    "a checkpoint inside a file": [("train", 4), ("resume", 2), ("train", 5)],
    "files that were deleted come back": [("train", 2), ("delete", 0), ("train", 5)],
}


def rows(count, attempt):
    return [{"step": n, "level": "big@r0.20", "loss_kl": n + attempt / 4, "time_unix": 1e9 + n} for n in range(count)]


def events(run):
    """All events, in the order in which TensorBoard reads the files."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    for name in run.names(FOLDER):
        content, place = run.read(name), 0
        while place < len(content):
            (size,), data = struct.unpack_from("<Q", content, place), place + 12
            assert struct.unpack_from("<I", content, place + 8) == (masked_crc32c(content[place : place + 8]),)
            assert struct.unpack_from("<I", content, data + size) == (masked_crc32c(content[data : data + size]),)
            yield Event.FromString(content[data : data + size])
            place = data + size + 4


@pytest.mark.parametrize("name", STORIES)
def test_every_step_is_there_once_with_what_it_was_last(name, tmp_path):
    run, attempt = Storage(str(tmp_path)), 0
    expected = []
    for what, steps in STORIES[name]:
        if what == "train":
            expected = expected + rows(steps, attempt)[len(expected) :]
            write_events(run, expected)
        elif what == "resume":
            attempt, expected = attempt + 1, expected[:steps]
            forget_events(run, steps)
        else:
            run.delete(FOLDER)
    logged = [event for event in events(run) if event.summary.value]
    assert [
        (event.step, event.wall_time, {value.tag: value.simple_value for value in event.summary.value})
        for event in logged
    ] == [(row["step"], row["time_unix"], scalars(row)) for row in expected]


def test_a_file_names_its_steps_and_makes_an_open_tensorboard_forget_them(tmp_path):
    run = Storage(str(tmp_path))
    write_events(run, rows(3, 0))
    write_events(run, rows(5, 0))
    assert run.names(FOLDER) == [
        f"{FOLDER}/steps-00000000-00000003.tfevents",
        f"{FOLDER}/steps-00000003-00000005.tfevents",
    ]
    found = list(events(run))
    assert [event.file_version for event in found if event.file_version] == ["brain.Event:2"] * 2
    assert [event.step for event in found if event.session_log.status == 1] == [0, 3]


def test_a_resume_behind_a_file_leaves_it(tmp_path):
    run = Storage(str(tmp_path))
    write_events(run, rows(3, 0))
    write_events(run, rows(5, 0))
    forget_events(run, 3)
    assert run.names(FOLDER) == [f"{FOLDER}/steps-00000000-00000003.tfevents"]


def test_no_file_without_a_new_step(tmp_path):
    run = Storage(str(tmp_path))
    write_events(run, [])
    assert run.names() == []


def test_a_step_costs_the_same_however_long_the_run_is(tmp_path):
    run = Storage(str(tmp_path))
    write_events(run, rows(1000, 0))
    write_events(run, rows(1010, 0))
    sizes = [run.size(name) for name in run.names(FOLDER)]
    assert sizes[1] < 0.02 * sizes[0]
