"""A hub on loopback that also takes repositories: who may write where, what came, and how many bytes of it."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.hub import Handler, Hub

_API = "/api/models/"


@dataclass
class Repository:
    """Files by branch."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: int = 0

    @property
    def tags(self) -> list[str]:
        """Of its card, as the hub tells them."""
        card = self.branches["main"].get("README.md", b"").decode()
        head = card.split("---")[1] if card.startswith("---") else ""
        return (yaml.safe_load(head) or {}).get("tags") or []


@dataclass
class WritableHub(Hub):
    """Repositories by owner/name, and the people who have tokens.

    Attributes:
        tokens: whose each token is; a person may write below their own name only.
        repositories: what is there.
        received: bytes of files that came, by way.
        fail_lfs: how many uploads of large files are refused before one is taken.
    """

    tokens: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=lambda: {"lfs": 0, "regular": 0})
    fail_lfs: int = 0

    @property
    def handler(self) -> type[Handler]:
        """One that takes files."""
        return WritingHandler


class WritingHandler(Handler):
    """The endpoints that the client's create_repo, create_branch and upload_folder use."""

    def do_POST(self) -> None:
        """Whatever changes something, or asks with a body."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, ""))
        if path == "/api/validate-yaml":
            text = json.loads(body)["content"]
            fine = text.startswith("---\n") and isinstance(yaml.safe_load(text.split("---")[1]), dict)
            self.json(
                {"errors": [] if fine else [{"message": "no front matter"}], "warnings": []}, 200 if fine else 400
            )
        elif self._person() is None:
            self.json({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self.json({"objects": [self._large(item) for item in json.loads(body)["objects"]]})
        else:
            name, verb, revision = self._parts(path)
            if not name.startswith(f"{self._person()}/"):
                self.json({"error": "You don't have the rights."}, 403)
            else:
                getattr(self, f"_{verb}")(name, revision, body)

    def do_PUT(self) -> None:
        """A large file."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, self.path, ""))
        if self.hub.fail_lfs:
            self.hub.fail_lfs -= 1
            self.send(400, b"no", {})
            return
        assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
        self.hub.large[self.path.rpartition("/")[2]] = body
        self.hub.received["lfs"] += len(body)
        self.send(200, b"", {})

    def answer(self, send: bool) -> None:
        """What is known of a repository, to those who may know."""
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, ""))
        person = self._person()
        name, _, revision = self._parts(path)
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not name.startswith(f"{person}/")):
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        files = found.branches[revision or "main"]
        if "/tree/" in path:
            self.json(
                [{"type": "file", "path": key, "size": len(text), "oid": "0" * 40} for key, text in files.items()]
            )
        else:
            known = {"id": name, "sha": f"{found.commits:040d}", "private": found.private, "tags": found.tags}
            self.json({**known, "siblings": [{"rfilename": file} for file in files]})

    def _person(self) -> str | None:
        return self.hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    @staticmethod
    def _parts(path: str) -> tuple[str, str, str]:
        """Owner/name, what is asked, revision."""
        owner, name, verb, revision, *_ = [*path.removeprefix(_API).split("/"), "", ""]
        return f"{owner}/{name}", verb, revision

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted["organization"] or self._person()
        name = f"{owner}/{wanted['name']}"
        if owner != self._person():
            self.json({"error": f"You don't have the rights to create a model under the namespace {owner}"}, 403)
        elif name in self.hub.repositories:
            self.json({"error": "You already created this model repo", "url": f"{self.hub.address}/{name}"}, 409)
        else:
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.repositories[name] = Repository(private)
            self.json({"url": f"{self.hub.address}/{name}"})

    def _branch(self, name: str, branch: str, body: bytes) -> None:
        branches = self.hub.repositories[name].branches
        self.json({}, 409 if branch in branches else 200)
        branches.setdefault(branch, dict(branches["main"]))

    def _preupload(self, name: str, revision: str, body: bytes) -> None:
        there = self.hub.repositories[name].branches[revision]
        self.json({"files": [_mode(item["path"], there.get(item["path"])) for item in json.loads(body)["files"]]})

    def _large(self, item: dict[str, Any]) -> dict[str, Any]:
        found = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] in self.hub.large:
            return found
        return {**found, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}}

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        files = repository.branches[revision]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.hub.received["regular"] += len(files[value["path"]])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits += 1
        oid = f"{repository.commits:040d}"
        self.json({"commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "commitOid": oid})


def _mode(path: str, there: bytes | None) -> dict[str, Any]:
    """How a file is to come, and what the hub has of that name."""
    large = path.endswith(".safetensors")
    oid = None
    if there is not None:
        git = hashlib.sha1(f"blob {len(there)}\0".encode() + there)
        oid = hashlib.sha256(there).hexdigest() if large else git.hexdigest()
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}
