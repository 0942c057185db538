"""Records of JSON files, streamed: arrays of any size, and lines."""

import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from masters.data.sources.records import START, Mark, Record, reading, unpacked
from masters.data.storage import Storage

LOOKED_AT = 20
"""Lines at the start of a file of which one must be an object, or the file as a whole is something else."""

_CHUNK = 4 << 20
_LONGEST = 256 << 20
_NEAR = 16
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[^\s,\]}]+")
STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
DEPTHS = {"[": 1, "{": 1, "]": -1, "}": -1}


def line_records(root: Storage, name: str, start: Mark = START) -> Iterator[Record]:
    """Records of a file with one JSON value a line; a line that is no JSON gives the exception. Marks count lines.

    Raises:
        ValueError: where none of the first lines is an object: the file is something else.
    """
    offset, number = start
    held: list[Record] | None = [] if start == START else None  # until a line shows that the file is JSON lines
    with reading(root, name), unpacked(root, name, offset) as stream:
        for line in stream:
            if not offset:
                offset, line = len(line) - len(line.removeprefix(codecs.BOM_UTF8)), line.removeprefix(codecs.BOM_UTF8)
            offset, number = offset + len(line), number + 1
            if not line.strip():
                continue
            record = Record(_parsed(line), f"line {number}", (offset, number))
            if held is None:
                yield record
                continue
            held.append(record)
            if record.value and isinstance(record.value, Mapping):  # {} stands on lines of its own in indented JSON
                yield from held
                held = None
            elif len(held) == LOOKED_AT:
                break
    if held:
        raise ValueError(
            f"{root.address(name)}: is not JSON lines: none of its first {len(held)} lines is a JSON object; "
            f"{held[0].place}: {_why_not(held[0].value)}. Write one object a line, or all of them in one array."
        )


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # also integers of too many digits, lists nested too deep
        return error.with_traceback(None)  # whose frames would keep the line


def _why_not(value: Any) -> str:
    return str(value) if isinstance(value, Exception) else f"is of type {type(value).__name__}"


def array_records(root: Storage, name: str, start: Mark = START) -> Iterator[Record]:
    """Records of a JSON array. Memory is bounded by the largest record and a few chunks of 4 MiB.

    A record with an integer of too many digits, or nested too deep for Python's decoder, gives the exception. Bytes that
    are no UTF-8 become lone surrogates, which the checks of text find.

    Raises:
        ValueError: where the text breaks, with the record and the byte.
    """
    offset, number = start
    with reading(root, name), unpacked(root, name, offset) as stream:
        window = _Window(stream, offset)
        try:
            goes_on = _opens(window) if start == START else _goes_on(window)
            while goes_on:
                value = window.value()
                number += 1
                yield Record(value, f"record {number}", (window.offset, number))
                goes_on = _goes_on(window)
        except _BrokenError as error:
            place, problem = error.args
            raise ValueError(
                f"{root.address(name)}: is not a JSON array: {problem}, in or behind record {number + 1} "
                f"at byte {place}. Mend it there, or fetch the file again."
            ) from error


class _BrokenError(Exception):
    """Byte of the file, and what is wrong there."""


class _Window:
    """The part of a JSON text that is looked at: `text[at]` is the byte `offset` of the file."""

    def __init__(self, stream: io.BufferedReader, offset: int):
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self.offset = offset

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            self._pass(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]  # matches everywhere
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read_on()

    def step(self) -> None:
        """Pass the character that was peeked at."""
        self._pass(self._at + 1)

    def value(self) -> Any:
        """Pass the JSON value that stands here, and return it. Raises _BrokenError."""
        if self.peek() == "]":
            raise _BrokenError(self.offset, "a comma stands before the closing bracket")
        while True:
            end: int | None
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._is_cut(error):
                    raise self._broken(error) from error
                end = None
            except (ValueError, RecursionError) as error:  # integers of too many digits, lists nested too deep
                value, end = error.with_traceback(None), _end_of_value(self._text, self._at)
            # A number near the window's end may go on behind it: 1, 1.5, 1.5e300.
            if end is not None and (end < len(self._text) - _NEAR or self._ended):
                self._pass(end)
                return value
            if self._ended or len(self._text) - self._at > _LONGEST:
                raise _BrokenError(self.offset, "what begins here has no end")
            self._read_on()

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the window's end, not the text, may be at fault."""
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _NEAR

    def _broken(self, error: json.JSONDecodeError) -> _BrokenError:
        if self._ended and self._is_cut(error) and error.pos >= len(self._text.rstrip()):
            return _BrokenError(self.offset, "the file ends within what begins here")
        return _BrokenError(self.offset + self._bytes(self._at, error.pos), error.msg)

    def _bytes(self, start: int, end: int) -> int:
        if self._text.isascii():
            return end - start
        return len(self._text[start:end].encode("utf-8", "surrogateescape"))

    def _pass(self, end: int) -> None:
        self.offset += self._bytes(self._at, end)
        self._at = end

    def _read_on(self) -> None:
        """Read as much again as is left, so that a long record is tried few times."""
        rest = self._text[self._at :]
        chunk = self._stream.read(max(_CHUNK, len(rest)))
        self._ended = not chunk
        self._text, self._at = rest + self._decode(chunk, self._ended), 0


def _opens(window: _Window) -> bool:
    """Pass the opening bracket; whether a record follows."""
    if window.peek() == "\ufeff":
        window.step()
    if window.peek() != "[":
        raise _BrokenError(window.offset, f"it begins with {window.peek()!r}")
    window.step()
    return window.peek() != "]" or _goes_on(window)


def _goes_on(window: _Window) -> bool:
    """Pass what follows a record; whether another one does."""
    mark = window.peek()
    if mark not in (",", "]"):
        raise _BrokenError(window.offset, f"{mark!r} stands where a comma should" if mark else "the file ends")
    window.step()
    if mark == "]" and window.peek():
        raise _BrokenError(window.offset, "there is more behind the closing bracket")
    return mark == ","


def _end_of_value(text: str, at: int) -> int | None:
    """Where the JSON value at a place ends, without reading it; None where it goes on behind the text."""
    if text[at] not in "[{":
        scalar = _SCALAR.match(text, at)
        return scalar.end() if scalar else None
    depth = 0
    for token in STRINGS_AND_BRACKETS.finditer(text, at):
        depth += DEPTHS.get(token.group(), 0)
        if not depth:
            return token.end()
    return None
