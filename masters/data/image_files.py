"""Images as data sets name them: bytes, base64, paths, addresses. Found, read and decoded once."""

import base64
import hashlib
import http.client
import os
import posixpath
import re
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from masters.config.base import folder_or_address
from masters.config.prepare import RowDefaults, Source
from masters.data.image_hashes import THUMBNAIL_BYTES, Hashing
from masters.data.images import CheckedImage, check_content, check_decoded
from masters.data.rejects import RejectError, shown
from masters.data.storage import Storage

_REMEMBERED_BYTES = 64 << 20
_LARGEST_FILE = 256 << 20
_FETCH_SECONDS = 30.0
_SHOWN_PATH = 300
_READABLE = ("file", "s3", "gs")

_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]+={0,2}")
_SHORTEST_BASE64, _LONGEST_PATH = 40, 4096
_MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|....ftyp", re.DOTALL)
_STORE_IS_AWAY = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|HTTP status 5|timed out",
    re.IGNORECASE,
)


class ImageReader:
    """Reads and checks the images of a source's rows; one per source and process.

    Every image is read and decoded once: the latest ones are remembered, by their address or their content, rejects as well.

    Attributes:
        found: images that lay where a path or address said.
        missing: images that did not.
    """

    def __init__(self, source: Source, max_pixels: int, hashing: Hashing = "off"):
        rows = source if isinstance(source, RowDefaults) else None
        self._root, self._may_fetch = (rows.image_root, rows.fetch_images) if rows else ("", False)
        self._max_pixels, self._hashing = max_pixels, hashing
        self._remembered = _Memory(_REMEMBERED_BYTES)
        self._stores: dict[str, Storage] = {}
        self._first_missing: tuple[str, str] | None = None
        self.found = self.missing = 0

    @property
    def first_missing(self) -> str:
        """Where the first image that was not found was looked for, as the end of a sentence; empty where all were."""
        if self._first_missing is None:
            return ""
        below, tried = self._first_missing
        return f"{f' below {below}' if below else ''}: first tried {tried}"

    def check(self, image: Any, folder: str) -> CheckedImage:
        """An image of a row: encoded bytes, a PIL image, a path or address, base64, a data URI, or {bytes, path, url}.

        Relative paths start at the source's `image_root`, or else at `folder` (a path or an address), never at the
        process's working directory. Where no file of the name is there, slips that are common are mended: blanks around,
        backslashes, `~`, the suffix in other case, and a path that repeats the end of the folder.

        Raises:
            RejectError: where it cannot be found, read, decoded or shown to models.
            OSError: where an object store does not answer: that is no fault of the row.
        """
        given = _given(image)
        if isinstance(given, Image.Image):
            return check_decoded(given, self._max_pixels, self._hashing)
        if isinstance(given, bytes):
            return self._decoded(given, shown(given))
        embedded = _embedded(given)
        if embedded is not None:
            return self._decoded(embedded, f"base64 of {len(embedded)} bytes")
        start = self._root or folder
        known = self._remembered.get((start, given))
        if known is None:
            try:
                known = self._decoded(self._read(given, start), _shown_path(given))
            except RejectError as error:
                known = error
            self._remembered.put((start, given), known)
        return _answer(known)

    def _decoded(self, content: bytes, name: str) -> CheckedImage:
        """The checked content; `name` is what details call it."""
        if not content:
            raise RejectError("image is empty", name)
        digest = hashlib.sha256(content).digest()
        known = self._remembered.get(digest)
        if known is None:
            try:
                known = check_content(content, self._max_pixels, self._hashing)
            except RejectError as error:
                known = error
            self._remembered.put(digest, known if isinstance(known, RejectError) else replace(known, content=b""))
        if isinstance(known, RejectError):
            raise RejectError(known.reason, f"{name}: {known.detail}")
        return replace(known, content=content)

    def _read(self, text: str, start: str) -> bytes:
        """The content behind a path or an address."""
        match = _SCHEME.match(text)
        scheme = match[1].lower() if match else ""
        if scheme in ("http", "https"):
            if self._may_fetch:
                return _fetched(text.strip())
            raise RejectError(
                "image is an address", f"{_shown_path(text)}: fetch the images first, or set fetch_images: true"
            )
        if scheme not in ("", *_READABLE):
            raise RejectError(
                "image is an address", f"{_shown_path(text)}: only {', '.join(_READABLE)} and paths are read"
            )
        first = ""
        for place in _places(text, start):
            first = first or place
            content = self._stored(place) if _SCHEME.match(place) else _on_disk(place)
            if content is not None:
                self.found += 1
                return content
        if not first:
            raise RejectError("image path is relative to no folder", f"{_shown_path(text)}: set image_root")
        self.missing += 1
        self._first_missing = self._first_missing or (start, first)
        raise RejectError("image file cannot be read", f"{_shown_path(first)}: No such file or directory")

    def _stored(self, address: str) -> bytes | None:
        """A file in an object store; None where there is none."""
        scheme, _, rest = address.partition("://")
        bucket, _, name = rest.partition("/")
        try:
            uri = folder_or_address(f"{scheme.lower()}://{bucket}")
            if uri not in self._stores:
                self._stores[uri] = Storage(uri)
            return self._stores[uri].read(name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if _STORE_IS_AWAY.search(str(error)):
                raise
            raise RejectError("image file cannot be read", f"{_shown_path(address)}: {error}") from error


class _Memory:
    """The latest answers, up to a number of bytes."""

    def __init__(self, capacity: int):
        self._left = capacity
        self._answers: OrderedDict[Hashable, CheckedImage | RejectError] = OrderedDict()

    def get(self, key: Hashable) -> CheckedImage | RejectError | None:
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def put(self, key: Hashable, answer: CheckedImage | RejectError) -> None:
        if isinstance(answer, RejectError):
            answer = RejectError(answer.reason, answer.detail)  # the one that was raised holds every frame that it left
        self._answers[key] = answer
        self._left -= _size(answer)
        while self._left < 0:
            _, oldest = self._answers.popitem(last=False)
            self._left += _size(oldest)


def _size(answer: CheckedImage | RejectError) -> int:
    """About what an answer takes in memory, its key included."""
    if isinstance(answer, RejectError):
        return 1024
    return 1024 + len(answer.content) + (THUMBNAIL_BYTES if answer.hashes else 0)


def _answer(known: CheckedImage | RejectError) -> CheckedImage:
    if isinstance(known, RejectError):
        raise RejectError(known.reason, known.detail)
    return known


def _given(image: Any) -> bytes | str | Image.Image:
    """What stands for the image; of a map, `bytes` before `path` before `url`."""
    value = image
    if isinstance(image, Mapping):
        values = [image[field] for field in ("bytes", "path", "url") if image.get(field) is not None]
        filled = [value for value in values if not isinstance(value, bytes | str) or value]
        value = next(iter(filled or values), None)
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    if not isinstance(value, bytes | str | Image.Image):
        raise RejectError("image is neither bytes nor a path", shown(image))
    if isinstance(value, str) and not value.strip():
        raise RejectError("image is empty", shown(image))
    return value


def _embedded(text: str) -> bytes | None:
    """The content that a data URI or base64 text holds; None for other texts, which are paths and addresses.

    Text is base64 where nothing else is in it and its beginning decodes to that of an image, or where it is too long for a
    path.
    """
    text = text.strip()
    if text[:5].lower() == "data:":
        head, comma, body = text.partition(",")
        if not comma:
            raise RejectError("image is corrupt", f"{shown(text)}: a data URI without content")
        content = urllib.parse.unquote_to_bytes(body)
        return _base64(content.decode("latin-1")) if head.rstrip().lower().endswith(";base64") else content
    if len(text) < _SHORTEST_BASE64 or not _BASE64.fullmatch(text[:16]):
        return None
    if len(text) <= _LONGEST_PATH and not _MAGIC.match(_base64(text[:16])):
        return None
    return _base64(text) if _BASE64.fullmatch(text) else None


def _base64(text: str) -> bytes:
    """Of either alphabet, wrapped or not, with or without its padding."""
    packed = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError as error:
        raise RejectError("image is corrupt", f"{shown(text)}: base64: {error}") from error


_URL_SAFE = str.maketrans("-_", "+/")


def _places(text: str, start: str) -> Iterator[str]:
    """Where the file of a path or an address may lie: first as written, then with what is mended."""
    seen: set[str] = set()
    for name in (text, _mended(text)):
        for joined in _joined(name, start):
            root, suffix = posixpath.splitext(joined)
            for place in (joined, root + suffix.lower(), root + suffix.upper()):
                if place not in seen:
                    seen.add(place)
                    yield place


def _mended(text: str) -> str:
    """Without blanks around and a leading ./, with slashes for backslashes, and ~ expanded."""
    return os.path.expanduser(text.strip().replace("\\", "/")).removeprefix("./")


def _joined(name: str, start: str) -> Iterator[str]:
    """The name behind the folder; then without a beginning that repeats the folder's end (images/a.png in data/images)."""
    start, name = _without_scheme(start), _without_scheme(name)
    if _SCHEME.match(name) or name.startswith("/"):
        yield name.lstrip()
    elif start:
        yield f"{start.rstrip('/')}/{name}"
        folders, parts = start.rstrip("/").split("/"), name.split("/")
        for length in range(len(parts) - 1, 0, -1):
            if parts[:length] == folders[-length:]:
                yield f"{start.rstrip('/')}/{'/'.join(parts[length:])}"


def _without_scheme(address: str) -> str:
    """The path of a file:// address; anything else as it is."""
    match = _SCHEME.match(address)
    if not match or match[1].lower() != "file":
        return address
    return urllib.parse.unquote(address[match.end() :].removeprefix("localhost").strip())


def _on_disk(path: str) -> bytes | None:
    """The file's content; None where there is none."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            raise RejectError("image file cannot be read", f"{_shown_path(path)}: is a folder or no plain file")
        if facts.st_size > _LARGEST_FILE:
            raise RejectError("image is too large", f"{_shown_path(path)}: {facts.st_size} bytes")
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RejectError:
        raise
    except OSError as error:
        raise RejectError("image file cannot be read", f"{_shown_path(path)}: {error.strerror}") from error
    except ValueError as error:  # a NUL byte, or no Unicode
        raise RejectError("image file cannot be read", f"{_shown_path(path)}: {error}") from error


def _fetched(address: str) -> bytes:
    """What a web server answers, in one try."""
    request = urllib.request.Request(
        urllib.parse.quote(address, safe="%:/?#[]@!$&'()*+,;=~"), headers={"User-Agent": "masters"}
    )
    content, until = bytearray(), time.monotonic() + _FETCH_SECONDS
    try:
        with urllib.request.urlopen(request, timeout=_FETCH_SECONDS) as answer:
            while part := answer.read1(1 << 20):
                content += part
                if len(content) > _LARGEST_FILE:
                    raise RejectError("image is too large", f"{_shown_path(address)}: more than {_LARGEST_FILE} bytes")
                if time.monotonic() > until:
                    raise TimeoutError(f"not here after {_FETCH_SECONDS:g} s")
    except RejectError:
        raise
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise RejectError("image cannot be fetched", f"{_shown_path(address)}: {error}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RejectError("image cannot be fetched", f"{_shown_path(address)}: {error}") from error
    return bytes(content)


def _shown_path(text: str) -> str:
    """For details. What follows a `?` in an address, and a user in it, may be secret."""
    match = _SCHEME.match(text)
    if match:
        host, slash, path = text[match.end() :].partition("?")[0].partition("/")
        text = f"{match[0]}{host.rpartition('@')[2]}{slash}{path}"
    return shown(text, _SHOWN_PATH)
