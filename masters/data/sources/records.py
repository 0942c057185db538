"""What readers of files yield, and the bytes that they read: from any storage, unpacked."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from masters.data.storage import Storage

Mark = tuple[int, int]
"""A place in a file: its byte offset (unpacked; 0 where the kind has none), and how many records, or lines, are before."""

START: Mark = (0, 0)

_BUFFER = 4 << 20
_PACKINGS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        value: a mapping; whatever else stood there; or the exception of a record that could not be read.
        place: "line 7" (JSON lines), "record 3" (a JSON array), "row 3" (tables), all from 1, or "member 000123".
        next: where reading goes on behind this record.
    """

    value: Any
    place: str
    next: Mark


@contextmanager
def reading(root: Storage, name: str) -> Iterator[None]:
    """Name the file in errors of reading it. Raises ValueError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        text = str(error).strip() or type(error).__name__
        reason = text.splitlines()[0].rstrip(".")
        raise ValueError(
            f"{root.address(name)}: cannot be read: {reason}. Fetch or write the file again; it may be cut off or damaged."
        ) from error


def packing(first: bytes) -> str | None:
    """gzip or zstd, by a file's first bytes; None for neither."""
    return next((name for magic, name in _PACKINGS.items() if first.startswith(magic)), None)


def unpacked(root: Storage, name: str, offset: int = 0) -> io.BufferedReader:
    """The file's bytes from an offset on; gzip and zstd are unpacked, and the offset counts unpacked bytes."""
    raw = root.open(name)
    packed = packing(raw.read(4))
    if packed is None:
        raw.seek(offset)
        return io.BufferedReader(raw, _BUFFER)
    raw.seek(0)
    stream = io.BufferedReader(pa.CompressedInputStream(raw, packed), _BUFFER)
    while offset and (passed := stream.read(min(offset, _BUFFER))):
        offset -= len(passed)
    return stream
