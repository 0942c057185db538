"""A quiet terminal: what Ray, vLLM and DeepSpeed print goes to a file, what Masters says stays on the screen."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from masters.reporting.progress import Screen


@contextmanager
def quiet(log: Path) -> Iterator[Screen]:
    """Send this process's output, down to the file descriptors, to a file; the screen still reaches the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with redirected(target) as terminal:
            yield Screen(terminal)
    finally:
        os.close(target)


@contextmanager
def redirected(target: int) -> Iterator[TextIO]:
    """Both outputs of this process go to a file descriptor; the terminal, or what stands for one, for the time of the block."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(target, 1)
    os.dup2(target, 2)
    with os.fdopen(os.dup(saved[0]), "w", buffering=1) as terminal:
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
