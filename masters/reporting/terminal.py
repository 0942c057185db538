"""A quiet terminal: what Ray, vLLM and DeepSpeed print goes to a log file, what Masters says stays on the screen."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masters.reporting.progress import Screen

_TAIL = 20


@contextmanager
def quiet(log: Path) -> Iterator[Screen]:
    """Send this process's output, down to the file descriptors, to a file; the screen still reaches the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    with os.fdopen(os.dup(saved[0]), "w", buffering=1) as terminal:
        try:
            yield Screen(terminal)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def tail(log: Path) -> str:
    """The last lines of a log file."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL:])
