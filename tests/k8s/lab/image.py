"""Images for the nodes of the lab, without a registry: a file system of links, into which each container mounts what this
machine has installed. So the project's environment is neither packed nor copied, and pods look as they do with the real image.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.k8s.tools import ROOT, find

IMAGE, PAUSE = "localhost/masters:lab-cpu", "localhost/pause:lab"
_USER = 1000
_PASSWD = f"root:x:0:0:root:/root:/bin/bash\nmasters:x:{_USER}:{_USER}::/home/masters:/bin/bash\n"
_LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
_FILES = ("ld.so.cache", "ld.so.conf", "nsswitch.conf", "ssl/certs/ca-certificates.crt")


def mounted() -> list[str]:
    """Folders of this machine that are seen, read-only and at the same place, in every container."""
    places = [Path("/usr"), *(Path(place).resolve() for place in (ROOT, sys.prefix, sys.base_prefix))]
    return [
        str(place) for place in places if not any(place != other and place.is_relative_to(other) for other in places)
    ]


def write_images(folder: Path) -> list[Path]:
    """The archives to import: the project's image and the one that holds a pod together."""
    pause = folder / "pause"
    source = Path(__file__).with_name("go") / "pause"
    subprocess.run(
        ["go", "build", "-trimpath", "-o", pause, "."], cwd=source, check=True, env={**os.environ, "CGO_ENABLED": "0"}
    )
    own = {
        "User": f"{_USER}:{_USER}", "WorkingDir": "/home/masters", "Cmd": ["masters", "--help"],
        "Env": [f"PATH={Path(sys.prefix).resolve() / 'bin'}:/usr/bin:/bin", f"PYTHONPATH={ROOT}", "HOME=/home/masters", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
    }  # fmt: skip
    return [
        _archive(folder / "masters.tar", IMAGE, own, _layer()),
        _archive(folder / "pause.tar", PAUSE, {"Entrypoint": ["/pause"]}, _layer_of(pause)),
    ]


def base_spec() -> dict:
    """containerd's default for a container, with our mounts, the tiny models where docker/Dockerfile puts them, and its
    own limits of open files.
    """
    ctr = find("ctr")
    assert ctr is not None
    spec = json.loads(subprocess.run([ctr, "oci", "spec"], check=True, capture_output=True, text=True).stdout)
    spec["process"].pop("rlimits", None)
    places = {place: place for place in mounted()} | {"/opt/masters/models": str(ROOT / "models")}
    spec["mounts"] += [
        {"destination": there, "source": here, "type": "bind", "options": ["rbind", "ro"]}
        for there, here in places.items()
    ]
    return spec


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode, owner in (("tmp", 0o1777, 0), ("root", 0o755, 0), ("etc", 0o755, 0), ("var/tmp", 0o1777, 0), ("home/masters", 0o755, _USER)):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(entry)
        for name, target in _LINKS.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        _add(tar, "etc/passwd", _PASSWD.encode())
        _add(tar, "etc/group", f"root:x:0:\nmasters:x:{_USER}:\n".encode())
        for name in _FILES:
            file = Path("/etc") / name
            if file.exists():
                _add(tar, f"etc/{name}", file.read_bytes())
    return buffer.getvalue()


def _layer_of(binary: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "pause", binary.read_bytes(), 0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _archive(path: Path, name: str, settings: dict, layer: bytes) -> Path:
    """A docker-archive of one layer."""
    config = {
        "architecture": "amd64", "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    text = json.dumps(config).encode()
    called = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = json.dumps([{"Config": called, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for entry, content in ((called, text), ("manifest.json", manifest), ("layer.tar", layer)):
            _add(tar, entry, content)
    return path
