"""The log of an attempt: what Masters says and what libraries print, kept in the run directory wherever that lies.

Output goes into a file without a name, and a thread copies its whole lines, without secrets, to where they are kept. A pipe
would do with less, but would stop a library that prints while it holds Python's lock.
"""

import io
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import BinaryIO

import pyarrow as pa

from masters.config.run import RunConfig
from masters.config.secrets import secret_values, secret_variables, without_secrets
from masters.data.storage import Storage
from masters.reporting.progress import Screen
from masters.reporting.terminal import redirected

FOLDER = "logs"
_EVERY = 60.0  # seconds between two uploads; what a SIGKILL can cost
_COPY_EVERY = 0.5
_PATIENCE = 20.0  # seconds that the end of a run waits for a store that does not answer
_TAIL = 20
_MOST_AT_ONCE = 1 << 20


class RunLog:
    """One attempt's log. Names sort by time, and no two attempts have one name.

    On a local disk lines are appended as they come. An object store gets the whole log once a minute, when it has grown, and
    at the end. Whatever goes wrong with that is said once, and never stops the run.

    Attributes:
        name: within the run directory.
        place: path or URI, as people are told it.
    """

    def __init__(self, run: Storage, secrets: Iterable[str] = ()):
        self.name = f"{FOLDER}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}.log"
        self.place = run.address(self.name)
        self._run, self._secrets = run, tuple(secrets)
        self._printed: BinaryIO = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115  as long as this object
        self._kept: BinaryIO | None = None
        self._taken, self._uploaded = 0, 0
        self._last: deque[str] = deque(maxlen=_TAIL)
        self._before_trace: tuple[str, ...] = ()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._echo: Callable[[str], object] = lambda _: None
        self._show: Callable[[str], object] | None = None

    def tail(self) -> str:
        """The last lines, before the trace of an error."""
        return "\n".join(self._before_trace or self._last)

    def last_words(self, error: BaseException, words: str) -> None:
        """Why the attempt ends, with the trace; brought to its place at once, since who ends a job may not wait."""
        trace = ""
        if isinstance(error, ValueError):
            words = str(getattr(error, "cause", error))  # Ray wraps a ValueError of a task in a trace
        elif not isinstance(error, KeyboardInterrupt):
            trace = "".join(traceback.format_exception(error))
        self._in_time()
        self._before_trace = tuple(self._last)
        self._printed.write(f"{trace}error     {words}\n".encode())
        self._in_time()

    def save_soon(self) -> None:
        """The same without waiting, as a handler of signals needs it."""
        threading.Thread(target=self._save, daemon=True).start()

    def _keep_on(self) -> None:
        uploaded = time.monotonic()
        while not self._ended.wait(_COPY_EVERY):
            upload = time.monotonic() - uploaded >= _EVERY
            self._save(upload=upload)
            if upload:
                uploaded = time.monotonic()

    def _save(self, upload: bool = True, last: bool = False) -> None:
        with self._lock:
            if self._printed.closed:
                return
            try:
                self._copy(rest=last)
                if upload:
                    self._upload()
            except Exception as error:  # noqa: BLE001  whatever a disk or a store says: the run does not care
                self._complain(str(error) or type(error).__name__)
            for file in (self._printed, self._kept) if last else ():
                if file is not None:
                    file.close()

    def _complain(self, why: str) -> None:
        """Once."""
        show, self._show = self._show, None
        if show is not None:
            said = without_secrets(why, self._secrets).splitlines()[0]
            show(f"note      the log is not kept at {self.place}, and the run goes on: {said}")

    def _copy(self, rest: bool) -> None:
        """Take whole lines, so that no secret is cut in two; with `rest` what follows the last one, too."""
        while left := os.fstat(self._printed.fileno()).st_size - self._taken:
            piece = os.pread(self._printed.fileno(), min(left, _MOST_AT_ONCE), self._taken)
            end = piece.rfind(b"\n") + 1
            if (rest and len(piece) == left) or (not end and len(piece) == _MOST_AT_ONCE):
                end = len(piece)
            if not end:
                return
            text = without_secrets(piece[:end].decode(errors="replace"), self._secrets)
            self._taken += end
            self._last.extend(line for line in text.splitlines() if line.strip())
            self._echo(text)
            self._file().write(text.encode())

    def _file(self) -> BinaryIO:
        if self._kept is None:
            folder = self._run.local_path
            if folder is None:
                self._kept = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115  as long as this object
            else:
                os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
                self._kept = open(os.path.join(folder, self.name), "ab", buffering=0)  # noqa: SIM115
        return self._kept

    def _upload(self) -> None:
        if self._run.local_path is not None or self._kept is None:
            return
        size = os.fstat(self._kept.fileno()).st_size
        if size > self._uploaded:
            with pa.memory_map(f"/dev/fd/{self._kept.fileno()}") as mapped:
                self._run.write(self.name, mapped.read_buffer(size))
            self._uploaded = size

    def _in_time(self, last: bool = False) -> None:
        thread = threading.Thread(target=self._save, kwargs={"last": last}, daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        if thread.is_alive():
            self._complain(f"no answer in {_PATIENCE:g} s")

    def _end(self) -> None:
        self._ended.set()
        self._in_time(last=True)
        self._show, self._echo = None, lambda _: None  # the terminal is not ours any more


def log_of(config: RunConfig, run: Storage) -> RunLog:
    """The log of an attempt that begins now; without the secrets that this process can see."""
    names = secret_variables(config.model_dump())
    return RunLog(run, secret_values(os.environ, names))


@contextmanager
def kept(log: RunLog, verbose: bool = False) -> Iterator[Screen]:
    """Keep all that this process prints in the log, down to the file descriptors; the screen still reaches the terminal.

    With `verbose` the terminal shows the rest, too. SIGTERM, where nobody else handles it, interrupts the block like Ctrl-C.
    """
    with (
        redirected(log._printed.fileno()) as terminal,
        os.fdopen(os.dup(log._printed.fileno()), "w", buffering=1) as own,
    ):
        screen = Screen(own) if verbose else Screen(terminal, log=own)
        if verbose:
            log._echo = lambda text: (terminal.write(text), terminal.flush())
        log._show = lambda line: print(line, file=terminal, flush=True)
        threading.Thread(target=log._keep_on, daemon=True).start()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Into a file it would hold kilobytes back, and a kill would take them.
            sys.stdout.reconfigure(line_buffering=True)
        with _interrupted_by_sigterm(log):
            try:
                yield screen
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                log._end()


@contextmanager
def _interrupted_by_sigterm(log: RunLog) -> Iterator[None]:
    """By default Python ends without its `finally`. Whoever sends it may wait three seconds only, so the log goes first."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        os.write(log._printed.fileno(), b"note      SIGTERM: the run was told to end\n")
        log.save_soon()
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if ours and signal.getsignal(signal.SIGTERM) == interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def attempts(run: Storage) -> list[str]:
    """Names of the logs of a run directory, the latest one last."""
    return run.names(FOLDER, ".log")


def kept_lines(place: str) -> tuple[str, list[str], list[str]]:
    """The latest log of a run directory, or the log that is named.

    Args:
        place: path or URI of a run directory, or of one of its logs.

    Returns:
        Where it is, its lines, and the places of the other attempts' logs.

    Raises:
        ValueError: where there is none, or the store does not answer.
    """
    folder, _, name = place.rpartition("/") if place.endswith(".log") else (place, "", "")
    try:
        run = Storage(folder)
        if run.local_path and not run.is_folder():
            raise ValueError(
                f"{place}: is no folder here. Where it is on a volume of a cluster, look in a pod that mounts it."
            )
        found = [name] if name else attempts(run)
        if not found:
            raise ValueError(f"{place}: has no log. A run directory is <storage>/<name> of a recipe.")
        text = run.read(found[-1]).decode(errors="replace")
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{place}: its log cannot be read: {' '.join(str(error).split())}") from None
    return run.address(found[-1]), text.splitlines(), [run.address(other) for other in found[:-1]]
