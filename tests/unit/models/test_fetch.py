"""The hub's real client against a hub on loopback: who asks how often, and what is there when something breaks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from masters.models import fetch
from tests.hub import COMMIT, NAME, Hub, weights

pytestmark = pytest.mark.engine

PINNED = f"{NAME}@{COMMIT}"
BIG = 1 << 21
RESOLVE = """
import json, sys
from masters.models.folder import resolve
path, weights, mirror = json.loads(sys.argv[1])
print(resolve(path, "HF_TOKEN", weights=weights, mirror=mirror))
"""
FILL = """
import json, sys
from masters.models import fetch
path, _, mirror = json.loads(sys.argv[1])
print(fetch.fill(mirror, *path.split("@"), None))
"""


@pytest.fixture
def hub():
    files = {"config.json": b'{"model_type": "qwen2_5_vl"}', "tokenizer.json": b"{}", ".gitattributes": b"*"}
    shards = {f"model-{number}.safetensors": weights(number, BIG) for number in (1, 2)}
    with Hub({**files, **shards}) as hub:
        yield hub


def start(hub, home, path=PINNED, weights=True, mirror=None, code=RESOLVE):
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps([path, weights, mirror and str(mirror)])],
        env=hub.environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process, status=0):
    out, err = process.communicate(timeout=90)
    assert process.returncode == status, out + err
    return (out if status == 0 else err).strip().splitlines()[-1]


def whole(folder, hub, weights=True):
    wanted = {name: content for name, content in hub.files.items() if weights or not name.endswith(".safetensors")}
    assert {name: (Path(folder) / name).read_bytes() for name in wanted} == wanted
    assert weights or not list(Path(folder).glob("*.safetensors"))


def test_processes_of_a_node_fetch_once_and_later_ones_ask_nobody(hub, tmp_path):
    hub.seconds = 0.1
    together = [start(hub, tmp_path) for _ in range(4)]
    folders = {end(process) for process in together}
    assert len(folders) == 1
    whole(*folders, hub)
    assert {name: len(hub.gets(name)) for name in hub.files} == dict.fromkeys(hub.files, 1)
    others = [path for method, path, _ in hub.asked if method == "HEAD" or "/tree/" in path]
    assert len(others) == len(set(others)) == len(hub.files) + 1
    hub.asked.clear()
    whole(end(start(hub, tmp_path)), hub)
    whole(end(start(hub, tmp_path, weights=False)), hub)
    assert hub.asked == []


def test_settings_alone_are_no_whole_model(hub, tmp_path):
    whole(end(start(hub, tmp_path, weights=False)), hub, weights=False)
    whole(end(start(hub, tmp_path)), hub)
    assert len(hub.gets("config.json")) == len(hub.gets("model-1.safetensors")) == 1


@pytest.mark.parametrize("path", [NAME, f"{NAME}@main"])
def test_only_what_is_not_pinned_asks_for_the_commit(hub, tmp_path, path):
    assert end(start(hub, tmp_path, path)).endswith(COMMIT)
    whole(end(start(hub, tmp_path, path)), hub)
    information = [asked for _, asked, _ in hub.asked if asked.startswith("/api/models/") and "/tree/" not in asked]
    assert len(information) == 2
    hub.asked.clear()
    whole(end(start(hub, tmp_path)), hub)
    assert hub.asked == []


def test_a_hub_that_breaks_off_is_continued_where_it_was(hub, tmp_path):
    hub.files["model-1.safetensors"] = weights(1, 25_000_000)  # the client writes 10 MiB at a time
    hub.break_after["model-1.safetensors"] = (1, 22_000_000)
    whole(end(start(hub, tmp_path)), hub)
    assert hub.gets("model-1.safetensors") == ["", f"bytes={20 << 20}-"]


def answered(status):
    request = httpx2.Request("GET", "http://127.0.0.1/")
    return HfHubHTTPError("no", response=httpx2.Response(status, request=request))


def because(cause):
    error = LocalEntryNotFoundError("not on the disk")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (httpx2.ReadError("reset"), True),
        (because(httpx2.ConnectError("refused")), True),
        (answered(503), True),
        (answered(429), True),
        (answered(401), False),
        (answered(404), False),
        (because(answered(403)), False),
        (ValueError("the disk is full"), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=repr,
)
def test_what_may_pass_is_asked_again_and_the_rest_is_an_error_at_once(tmp_path, monkeypatch, error, again):
    answers, pauses = [error, str(tmp_path)], []

    def download(*_, **__):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
    if again:
        assert fetch.fetch(NAME, COMMIT, None) == tmp_path
        assert pauses == [2.0]
        answers.extend([error] * 9)
    with pytest.raises(type(error)):
        fetch.fetch(NAME, COMMIT, None)
    assert len(pauses) == (5 if again else 0)


def test_what_killed_processes_left_long_ago_is_deleted_and_what_is_written_now_is_not(hub, tmp_path):
    cache = tmp_path / "hub" / "models--owner--model"
    old = [
        cache / "blobs" / "abc.1a2b3c4d.incomplete",
        cache / "snapshots" / COMMIT / f".model-1.safetensors.{'0' * 32}",
    ]
    new = cache / "blobs" / "def.1a2b3c4d.incomplete"
    for file in (*old, new):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"part")
    for file in old:
        os.utime(file, (1, 1))
    whole(end(start(hub, tmp_path)), hub)
    assert [file.exists() for file in (*old, new)] == [False, False, True]


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_hub_is_asked_again(hub, tmp_path, status):
    hub.status = (status, 1)
    whole(end(start(hub, tmp_path)), hub)


def test_a_model_that_is_not_there_is_an_error_at_once(hub, tmp_path):
    began = time.monotonic()
    said = end(start(hub, tmp_path, f"owner/none@{COMMIT}"), status=1)
    assert "owner/none" in said
    assert "the hub did not give it" in said
    assert time.monotonic() - began < 15


def test_a_process_that_is_killed_blocks_nobody_and_finished_files_stay(hub, tmp_path):
    hub.seconds = 0.05
    hub.files["model-2.safetensors"] = weights(2, 1 << 16)
    first = start(hub, tmp_path)
    second = start(hub, tmp_path)
    small = tmp_path / f"hub/models--owner--model/snapshots/{COMMIT}/model-2.safetensors"
    deadline = time.monotonic() + 30
    while not small.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    second_alone = start(hub, tmp_path)
    first.communicate()
    for process in (second, second_alone):
        whole(end(process), hub)
    assert len(hub.gets("model-2.safetensors")) == 1
    assert len(hub.gets("model-1.safetensors")) <= 2


def test_another_node_takes_from_the_mirror_and_asks_no_hub(hub, tmp_path):
    written = sum(map(len, hub.files.values()))
    assert int(end(start(hub, tmp_path / "a", mirror=tmp_path / "mirror", code=FILL))) == written
    hub.asked.clear()
    assert int(end(start(hub, tmp_path / "a", mirror=tmp_path / "mirror", code=FILL))) == 0
    whole(end(start(hub, tmp_path / "b", weights=False, mirror=tmp_path / "mirror")), hub, weights=False)
    together = [start(hub, tmp_path / "b", mirror=tmp_path / "mirror") for _ in range(2)]
    for process in together:
        whole(end(process), hub)
    assert hub.asked == []


def test_a_mirror_that_is_not_whole_is_not_taken_and_is_completed(hub, tmp_path):
    end(start(hub, tmp_path / "a", mirror=tmp_path / "mirror", code=FILL))
    record = tmp_path / "mirror" / NAME / f"{COMMIT}.json"
    record.unlink()
    shard = tmp_path / "mirror" / NAME / COMMIT / "model-1.safetensors"
    shard.unlink()
    hub.asked.clear()
    whole(end(start(hub, tmp_path / "b", mirror=tmp_path / "mirror")), hub)
    assert len(hub.gets("model-1.safetensors")) == 1
    assert not record.exists()
    assert int(end(start(hub, tmp_path / "b", mirror=tmp_path / "mirror", code=FILL))) == BIG
    assert record.exists()
    assert shard.read_bytes() == hub.files["model-1.safetensors"]


def test_a_cut_copy_from_the_mirror_is_no_whole_model(hub, tmp_path):
    end(start(hub, tmp_path / "a", mirror=tmp_path / "mirror", code=FILL))
    end(start(hub, tmp_path / "b", mirror=tmp_path / "mirror"))
    snapshot = tmp_path / f"b/hub/models--owner--model/snapshots/{COMMIT}"
    (snapshot / "model-2.safetensors").unlink()
    hub.asked.clear()
    whole(end(start(hub, tmp_path / "b", mirror=tmp_path / "mirror")), hub)
    assert hub.asked == []
