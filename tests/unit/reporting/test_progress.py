import io

import pytest

from masters.reporting import progress
from masters.reporting.progress import Screen, clock


@pytest.fixture
def time(monkeypatch):
    class Time:
        now = 1000.0

        def monotonic(self):
            return self.now

    fake = Time()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def test_one_line_a_minute_where_there_is_no_terminal(time):
    stream = io.StringIO()
    with Screen(stream).track("generate", 600, "questions") as tracker:
        for _ in range(300):
            time.now += 1
            tracker.advance(2, "big@r0.20")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["generate", "120/600", "questions", "2.0/s", "ETA", "4:00", "big@r0.20"]


def test_the_rate_leaves_out_start_up_and_what_was_done_before(time):
    with Screen(io.StringIO()).track("generate", 1000, "questions", done=500) as tracker:
        time.now += 300
        tracker.advance(0, "starting")
        tracker.advance(10)
        time.now += 10
        tracker.advance(100)
    assert tracker.rate == pytest.approx(10.0)
    assert str(tracker).startswith("610/1 000 questions")


def test_an_unknown_total_is_not_shown_and_gives_no_time_left(time):
    with Screen(io.StringIO()).track("prepare", 0, "rows") as tracker:
        tracker.advance(100)
        time.now += 300
        tracker.advance(38_300)
    assert str(tracker) == "38 400 rows  128/s"


def test_a_stage_leaves_one_line():
    stream = io.StringIO()
    Screen(stream).line("prepare", "3 rows [kept]", 65.4)
    assert stream.getvalue() == "prepare   3 rows [kept]  1:05\n"


@pytest.mark.parametrize("text", [r"The area is \[x=2\] so 4", r"see \[/INST] end", "[red] a :smile: \\", "[/b]"])
def test_what_is_said_is_not_read_as_markup(text):
    stream = io.StringIO()
    Screen(stream).line("mask", text, 1)
    Screen(stream).text(text)
    assert stream.getvalue() == f"mask      {text}  1 s\n{text}\n"


def test_what_is_said_on_a_terminal_is_not_read_as_markup(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Screen(stream).track("train", 3, "steps") as tracker:
        tracker.advance(1, r"see \[/INST] end")
    assert r"1/3 steps  see \[/INST] end" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1:01"), (3601, "1:00:01")])
def test_clock(seconds, text):
    assert clock(seconds) == text
