"""A hub on loopback that serves one model to the real client, and counts who asks for what."""

import hashlib
import json
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "owner/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 1 << 16


@dataclass
class Hub:
    """Files of a model by their names, and how the server treats those who ask.

    Attributes:
        files: content by name.
        asked: method, path and Range of every request.
        break_after: bytes after which a file's first answers end in the middle, by name: how many answers, after how many.
        status: a status that is given instead of an answer, and how often.
        seconds: pause before each 64 KiB.
    """

    files: dict[str, bytes]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    break_after: dict[str, tuple[int, int]] = field(default_factory=dict)
    status: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    address: str = ""

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", int(self.address.rpartition(":")[2] or 0)), type("Handler", (self.handler,), {"hub": self})
        )
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def handler(self) -> type["Handler"]:
        """What answers; a subclass may have another."""
        return Handler

    def environment(self, home: Path) -> dict[str, str]:
        """What a process that is to ask this hub needs, and where its cache is."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        }

    def gets(self, name: str) -> list[str]:
        """The Range of each time that a file was sent."""
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(f"/{name}")]


def weights(number: int, size: int) -> bytes:
    """Bytes that are not alike."""
    block = hashlib.sha256(str(number).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


class Handler(BaseHTTPRequestHandler):
    """What every hub on loopback answers with."""

    hub: Any  # of the subclass that a server has
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionResetError):  # who asked was killed
            super().handle()

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def log_message(self, *arguments: object) -> None:
        return

    def answer(self, send: bool) -> None:
        """Files of the model and what is known of it; `send` is False for HEAD."""
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, self.headers.get("Range") or ""))
        status, times = self.hub.status
        if times:
            self.hub.status = (status, times - 1)
            self.send(status, b"busy", {})
        elif path == f"/api/models/{NAME}" or path.startswith(f"/api/models/{NAME}/revision/"):
            self.json({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.hub.files]})
        elif path.startswith(f"/api/models/{NAME}/tree/{COMMIT}"):
            self.json([_entry(name, content) for name, content in self.hub.files.items()])
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            self._file(path.rpartition("/")[2], send)
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def json(self, value: Any, status: int = 200) -> None:
        """A value as JSON."""
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        """One whole answer."""
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def _file(self, name: str, send: bool) -> None:
        content, span = self.hub.files[name], re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if send:
            self._body(name, content[start:])

    def _body(self, name: str, content: bytes) -> None:
        times, after = self.hub.break_after.get(name, (0, 0))
        if times:
            self.hub.break_after[name] = (times - 1, after)
            content = content[:after]
        try:
            for place in range(0, len(content), _CHUNK):
                time.sleep(self.hub.seconds)
                self.wfile.write(content[place : place + _CHUNK])
        except OSError:
            self.close_connection = True
        if times:
            self.close_connection = True


def _entry(name: str, content: bytes) -> dict[str, Any]:
    sha = hashlib.sha256(content).hexdigest()
    entry = {"type": "file", "path": name, "size": len(content), "oid": sha[:40]}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
    return entry
