"""The log of an attempt in its run directory: all that was printed, no secret, whatever becomes of the run or the store."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from masters import cli, pipeline
from masters.config.secrets import HIDDEN, secret_values, secret_variables, without_secrets
from masters.data.storage import Storage
from masters.reporting import progress, run_log
from masters.reporting.progress import Screen
from masters.reporting.run_log import RunLog, attempts, kept, kept_lines

SECRET = "s3cr3t-of-the-judge"


class Remote(Storage):
    """A folder that is spoken to as an object store is: whole files only."""

    local_path = None


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(run_log, "_COPY_EVERY", 0.02)
    monkeypatch.setattr(run_log, "_EVERY", 0.1)


@pytest.fixture(params=[Storage, Remote])
def run(request, tmp_path):
    return request.param(str(tmp_path / "run"))


def text_of(run):
    (name,) = attempts(run)
    return run.read(name).decode()


def wait(what, seconds=10):
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


def test_all_that_is_printed_is_kept_and_the_terminal_shows_what_masters_says(run, capfd):
    with kept(RunLog(run)) as screen:
        screen.line("prepare", "40 samples")
        os.write(1, b"a library\n")
        os.write(2, b"another one\nwithout an end")
    assert capfd.readouterr().out == "prepare   40 samples\n"
    assert text_of(run) == "prepare   40 samples\na library\nanother one\nwithout an end"


def test_verbose_shows_all_and_keeps_it(run, capfd):
    with kept(RunLog(run, [SECRET]), verbose=True) as screen:
        screen.line("prepare", "40 samples")
        os.write(2, f"a library, {SECRET}\n".encode())
    shown = capfd.readouterr()
    assert shown.out == text_of(run) == f"prepare   40 samples\na library, {HIDDEN}\n"
    assert shown.err == ""


def test_every_attempt_has_a_file_of_its_own_and_names_sort_by_time(run, monkeypatch):
    clock, gmtime = iter([0.0, 9.0, 9.0, 100.0, 1e9]), time.gmtime
    monkeypatch.setattr(run_log.time, "gmtime", lambda: gmtime(next(clock)))
    said = ["a", "b", "c", "d", "e"]
    for text in said:
        with kept(RunLog(run)) as screen:
            screen.text(text)
    names = attempts(run)
    assert len(names) == 5
    found = [run.read(name).decode().strip() for name in names]
    assert sorted(found[1:3]) == ["b", "c"]  # in one second
    assert [found[0], *found[3:]] == ["a", "d", "e"]


def test_an_object_store_gets_it_while_the_run_goes_on_and_nothing_twice(tmp_path, fast, monkeypatch):
    run, written = Remote(str(tmp_path)), []
    monkeypatch.setattr(Remote, "write", lambda self, name, content: written.append(bytes(content)))
    with kept(RunLog(run)):
        os.write(1, b"first\n")
        wait(lambda: written)
        time.sleep(0.4)
        assert written == [b"first\n"]
        os.write(1, b"second\n")
        wait(lambda: len(written) > 1)
    assert written == [b"first\n", b"first\nsecond\n"]


def test_a_minute_is_what_a_sigkill_costs():
    assert run_log._EVERY <= 60


@pytest.mark.parametrize("error", [OSError("no such bucket\nmore"), RuntimeError("a client of its own"), None])
def test_a_store_that_refuses_or_does_not_answer_never_stops_a_run(tmp_path, fast, monkeypatch, capfd, error):
    monkeypatch.setattr(run_log, "_PATIENCE", 0.3)
    answer = threading.Event()

    def write(self, name, content):
        if error is None:
            answer.wait(30)
            return
        raise error

    monkeypatch.setattr(Remote, "write", write)
    start = time.monotonic()
    with kept(RunLog(Remote(str(tmp_path)))) as screen:
        os.write(1, b"something\n")
        time.sleep(0.3)
        screen.text("the end")
    answer.set()
    assert time.monotonic() - start < 5
    shown = capfd.readouterr().out
    assert "the end\n" in shown
    assert shown.count("note      the log is not kept at ") == 1
    assert (str(error).splitlines()[0] if error else "no answer in 0.3 s") in shown
    assert "more" not in shown


def test_a_store_that_answers_again_has_it_all(tmp_path, fast, monkeypatch):
    run, refusals, write = Remote(str(tmp_path)), [OSError("busy")] * 2, Remote.write

    def moody(self, name, content):
        if refusals:
            raise refusals.pop()
        write(self, name, content)

    monkeypatch.setattr(Remote, "write", moody)
    with kept(RunLog(run)):
        for number in range(20):
            os.write(1, f"{number}\n".encode())
            time.sleep(0.02)
    assert text_of(run).split() == [str(number) for number in range(20)]


RUNS = """
import sys, time
from masters.reporting.run_log import RunLog, kept
from tests.unit.reporting.test_run_log import Remote
with kept(RunLog(Remote(sys.argv[1]))) as screen:
    try:
        print("a library")
        screen.text("ready")
        time.sleep(60)
    finally:
        if sys.argv[2:]:
            time.sleep(60)
"""


@pytest.mark.parametrize("slow", [(), ("slow",)])
def test_sigterm_uploads_the_log_before_anything_else(tmp_path, slow):
    """Ray waits three seconds between SIGTERM and SIGKILL."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", RUNS, tmp_path, *slow]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    run = Remote(str(tmp_path))
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        wait(lambda: attempts(run), 3)
        assert text_of(run).startswith("a library\nready\nnote      SIGTERM")
        assert slow or process.wait(20) != 0
    finally:
        process.kill()
        process.communicate()


def test_the_handler_of_signals_is_there_for_the_block_only_and_replaces_none(tmp_path):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with kept(RunLog(Storage(str(tmp_path)))):
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with kept(RunLog(Storage(str(tmp_path)))):
            assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_no_secret_is_in_it_however_it_is_printed(run, fast, capfd):
    log = RunLog(run, [SECRET])
    with kept(log):
        for piece in (
            f"key={SECRET[:9]}",
            f"{SECRET[9:]}\nhf_abcdefghijklmnopqrst ",
            "sk-proj-0123456789abcdefgh\n",
            "s3://me:pass@b/x",
        ):
            os.write(1, piece.encode())
            time.sleep(0.1)
    assert text_of(run) == f"key={HIDDEN}\n{HIDDEN} {HIDDEN}\ns3://{HIDDEN}@b/x"
    assert SECRET not in log.tail()


ENVIRONMENT = {
    "HF_TOKEN": "hf_1", "AWS_SECRET_ACCESS_KEY": "0123456789", "MINE": "abcdefghij", "OTHER": "abcdefghijk", "MODE_KEY": "false",
    "GOOGLE_APPLICATION_CREDENTIALS": "/var/run/key.json", "CREDENTIALS_JSON": '{\n "private": "x",\n}',
}  # fmt: skip


def test_what_is_a_secret_of_this_process():
    recipe = {
        "hub_token_env": "HF_TOKEN",
        "score": {"judge": {"key_env": "MINE"}},
        "x": [{"a_env": None}],
        "env": "OTHER",
    }
    assert set(secret_variables(recipe)) == {"HF_TOKEN", "MINE"}
    found = set(secret_values(ENVIRONMENT, secret_variables(recipe)))
    assert found == {"0123456789", "abcdefghij", ' "private": "x",'}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a longer-secret", f"a {HIDDEN}"),
        ("task-0123456789abcdefghij risk-0123456789abcdefghij hf_short", "task-0123456789abcdefghij risk-0123456789abcdefghij hf_short"),
        ("http://h:80/a@b", "http://h:80/a@b"),
    ],
)  # fmt: skip
def test_what_is_hidden_in_a_text(text, left):
    assert without_secrets(text, ["secret", "longer-secret"]) == left


class LibraryError(Exception):
    """Whatever a library raises."""


@pytest.mark.parametrize(
    ("error", "status", "said", "trace"),
    [
        (ValueError("prepare.sources = x: no rows.\nTwo lines."), 1, "error     prepare.sources = x: no rows.\nTwo lines.\n", False),
        (LibraryError("no GPU"), 1, "error     LibraryError: no GPU\n", True),
        (KeyboardInterrupt(), 130, "error     interrupted\n", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
def test_the_log_says_why_a_run_ended(tmp_path, monkeypatch, capfd, error, status, said, trace, verbose):
    def fails(config, screen, names):
        os.write(1, b"a library\n")
        raise error

    monkeypatch.setattr(pipeline, "run_stages", fails)
    monkeypatch.setattr(sys, "argv", ["masters", "run", "recipes/tiny.yaml", "--set", f"storage={tmp_path}", *verbose])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    text = text_of(Storage(str(tmp_path / "tiny")))
    assert text.splitlines()[:2] == [f"run       recipes/tiny.yaml -> {tmp_path}/tiny", "a library"]
    assert text.endswith(said)
    assert ("Traceback" in text) is trace
    shown = capfd.readouterr()
    if not verbose:
        assert "Traceback" not in shown.out + shown.err
        assert ("a library" in shown.err) is trace  # the end of the log, where the message alone may not tell


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_for_the_terminal_and_the_log_has_a_line_a_minute(monkeypatch):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setenv("TERM", "xterm")
    terminal, log = _Terminal(), io.StringIO()
    screen = Screen(terminal, log)
    with screen.track("generate", 600, "questions") as tracker:
        for _ in range(10):
            clock.now += 20
            tracker.advance(2)
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("generate") and "/600 questions" in line for line in lines)
    assert "\x1b" in terminal.getvalue()
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(
    ("place", "words"),
    [("none", "none: is no folder here. Where it is on a volume of a cluster"), ("", "has no log. A run directory is <storage>/<name>"),
     ("logs/none.log", "its log cannot be read: ")],
)  # fmt: skip
def test_a_log_that_is_not_there_is_said(tmp_path, place, words):
    (tmp_path / "logs").mkdir()
    with pytest.raises(ValueError, match=words):
        kept_lines(os.path.join(tmp_path, place) if place else str(tmp_path))


def test_the_latest_log_of_a_run_directory_or_the_one_that_is_named(tmp_path):
    run = Storage(str(tmp_path))
    for name in ("20260102-000000-a.log", "20260101-000000-b.log"):
        run.write(f"logs/{name}", f"{name}\nx\n".encode())
    run.write("logs/other.txt", b"no")
    where, lines, others = kept_lines(str(tmp_path))
    assert (where, lines) == (f"{tmp_path}/logs/20260102-000000-a.log", ["20260102-000000-a.log", "x"])
    assert others == [f"{tmp_path}/logs/20260101-000000-b.log"]
    assert kept_lines(others[0]) == (others[0], ["20260101-000000-b.log", "x"], [])
