"""A namespace whose kubectl and job server are stand-ins, and our own commands in it."""

import base64
import json
import os
import stat
import sys
import threading
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from masters import cli
from masters.cluster import runs
from tests.unit.cluster.stand_ins import KUBECTL, TOKEN, JobServer


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """What there is: `lab(rayjobs=[...], rayclusters=[...], pods=[...], jobs=[...], logs={...})`; its folder and server."""
    handler = type("Handler", (JobServer,), {"stopped": []})
    place = tmp_path / "bin"
    place.mkdir()
    (place / "kubectl").write_text(KUBECTL)
    (place / "kubectl").chmod(stat.S_IRWXU)
    secret = {"metadata": {"name": "ray-token"}, "data": {"auth_token": base64.b64encode(TOKEN.encode()).decode()}}
    (place / "secret.json").write_text(json.dumps([secret]))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(runs, "_LOOK_EVERY", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        (place / "port").write_text(str(http.server_address[1]))

        def there(jobs=(), logs=None, **objects):
            for kind in ("rayjobs", "rayclusters", "pods"):
                (place / f"{kind}.json").write_text(json.dumps(list(objects.get(kind, ()))))
            handler.jobs, handler.logs = {one["submission_id"]: one for one in jobs}, logs or {}
            return SimpleNamespace(place=place, server=handler)

        yield there
        http.shutdown()
        thread.join()


@pytest.fixture
def masters(monkeypatch, capsys):
    def masters(*arguments):
        monkeypatch.setattr(sys, "argv", ["masters", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return masters
