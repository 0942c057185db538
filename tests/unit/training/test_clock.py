"""Every second belongs to one part. The GPU's clock is a stand-in: no machine with one runs these tests."""

from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch

from masters.training import clock as clock_module
from masters.training.clock import PARTS, Clock

# What happens: a part begins (its name), ends ("end"), or seconds go by.
STEPS = {
    "nothing": ([3], {}, 3),
    "one after the other": (["data", 1, "end", 2, "frozen", 4, "end", 8], {"data": 1, "frozen": 4}, 15),
    "one inside another": (["student", 1, "objective", 2, "end", 4, "end"], {"student": 5, "objective": 2}, 7),
    "the same again": (["optimiser", 1, "end", "student", 2, "end", "optimiser", 4, "end"], {"optimiser": 5, "student": 2}, 7),
}  # fmt: skip


class Time:
    """A clock that goes when it is told to, and events that take its time when they are recorded."""

    def __init__(self):
        self.now, self.waited = 100.0, 0

    def event(self, enable_timing):
        assert enable_timing
        time = self

        class Event:
            def record(self, stream):
                assert stream == "of the models"
                self.at = time.now

            def elapsed_time(self, later):
                return 1000 * (later.at - self.at)  # milliseconds

            def synchronize(self):
                assert self.at == time.now  # the last one: all others are behind it
                time.waited += 1

        return Event()


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: time.now)
    monkeypatch.setattr(torch.cuda, "Event", time.event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "of the models")
    return time


def play(clock, time, happenings):
    open_parts = []
    for what in happenings:
        if what == "end":
            open_parts.pop().__exit__(None, None, None)
        elif isinstance(what, str):
            open_parts.append(clock.part(what))
            open_parts[-1].__enter__()
        else:
            time.now += what


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", STEPS)
def test_every_second_belongs_to_one_part(time, device, name):
    happenings, expected, step = STEPS[name]
    clock = Clock(device)
    play(clock, time, happenings)
    seconds = clock.lap()
    assert seconds == pytest.approx({**dict.fromkeys(PARTS, 0.0), **expected, "step": step})
    assert time.waited == (device == "cuda")  # once a step, not once a part
    assert clock.lap()["step"] == 0  # what was told is told once


def test_laps_add_up_to_the_whole_time_with_what_lies_between_steps(time):
    clock, steps = Clock(), []
    for seconds in (1, 2, 4):
        play(clock, time, ["student", seconds, "end"])
        steps.append(clock.lap())
        play(clock, time, ["saving", 10 * seconds, "end"])
    assert [step["saving"] for step in steps] == [0, 10, 20]  # in the step behind it
    assert list(accumulate(step["step"] for step in steps)) == [1, 1 + 10 + 2, 1 + 10 + 2 + 20 + 4]


def test_a_part_ends_with_an_error_inside(time):
    clock = Clock()

    @clock.part("student")
    def fail():
        time.now += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    time.now += 5
    assert clock.lap() == {**dict.fromkeys(PARTS, 0.0), "student": 1, "step": 6}


def test_a_part_around_a_function_that_is_called_more_than_once(time):
    clock = Clock()

    def think(seconds):
        time.now += seconds
        return seconds

    timed = clock.part("objective")(think)
    assert [timed(1), timed(2)] == [1, 2]
    assert clock.lap()["objective"] == 3


def test_a_part_that_nobody_knows_is_refused():
    with pytest.raises(KeyError), Clock().part("frozn"):
        pass


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_peak_memory_in_gib(time, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    monkeypatch.setattr(clock_module.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5 * 2**19))
    assert Clock(device).peak_memory_gib() == {"cpu": 2.5, "cuda": 1.5}[device]
