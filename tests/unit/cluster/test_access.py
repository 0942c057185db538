"""Finding a cluster through a kubectl that stands in for the real one, and a job server that stands in for Ray's."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

from masters.cluster.access import Target, reach
from masters.cluster.submit import dashboard, version_line

TOKEN = "s3cr3t-t0k3n-0f-the-cluster"
KUBECTL = f"""#!{sys.executable}
import json, os, sys, time
here = os.path.dirname(__file__)
with open(here + "/calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
words = [word for word in sys.argv[1:] if not word.startswith("-")]
if "port-forward" in words:
    open(here + "/pid", "w").write(str(os.getpid()))
    if os.path.exists(here + "/broken"):
        sys.exit("error: unable to forward port because pod is not running. Current status=Pending")
    print("Forwarding from 127.0.0.1:" + open(here + "/port").read() + " -> 8265", flush=True)
    time.sleep(600)
place = here + ("/secret.json" if "secret" in words else "/clusters.json")
if not os.path.exists(place):
    sys.exit('Error from server (Forbidden): secrets "masters" is forbidden')
print(open(place).read())
"""


class JobServer(BaseHTTPRequestHandler):
    version, token = "2.58.0", TOKEN

    def do_GET(self):
        given = self.headers.get("Authorization")
        status = 200 if not self.token or given == f"Bearer {self.token}" else 403 if given else 401
        body = json.dumps({"version": "4", "ray_version": self.version, "ray_commit": "", "session_name": ""}).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (JobServer,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        handler.port = http.server_address[1]
        yield handler
        http.shutdown()
        thread.join()


@pytest.fixture
def kubectl(tmp_path, monkeypatch, server):
    """A folder with kubectl, and what it answers."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "kubectl").write_text(KUBECTL)
    (place / "kubectl").chmod(stat.S_IRWXU)
    (place / "port").write_text(str(server.port))
    (place / "secret.json").write_text(
        json.dumps({"metadata": {"name": "masters"}, "data": {"auth_token": base64.b64encode(TOKEN.encode()).decode()}})
    )
    clusters(place, cluster("masters"), cluster("other"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


def cluster(name, instance="", mode="token", **labels):
    labels = {"app.kubernetes.io/instance": instance or name, **labels}
    spec = {"authOptions": {"mode": mode}} if mode else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"head": {"serviceName": f"{name}-head-svc"}},
    }


def clusters(place, *items):
    (place / "clusters.json").write_text(json.dumps({"items": items}))


def alive(place) -> bool:
    try:
        os.kill(int((place / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_a_release_is_reached_by_a_port_forward_that_ends(kubectl, server, capfd):
    with reach(Target(namespace="research", release="masters")) as access:
        assert access.name == "masters"
        assert access.versions == (ray.__version__, "2.58.0")
        assert alive(kubectl)
        assert dashboard(access, "raysubmit_1") == (
            "kubectl -n research port-forward svc/masters-head-svc 8265, then http://127.0.0.1:8265/#/jobs/raysubmit_1"
        )
        assert TOKEN not in repr(access)
    assert not alive(kubectl)
    calls = (kubectl / "calls").read_text()
    assert all(line.startswith("-n research ") for line in calls.splitlines())
    assert TOKEN not in calls + "".join(capfd.readouterr())


def test_the_port_forward_ends_when_the_block_fails(kubectl):
    with pytest.raises(KeyboardInterrupt), reach(Target(release="masters")):
        raise KeyboardInterrupt
    deadline = time.monotonic() + 5
    while alive(kubectl) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(kubectl)


WAITS = """
import time
from masters.cluster.access import Target, reach
with reach(Target(release="masters")):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_the_port_forward_ends_with_its_terminal(kubectl, number):
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    finally:
        process.kill()
        process.communicate()
    assert not alive(kubectl)


def test_signals_are_handled_for_the_time_of_a_port_forward_only(kubectl):
    before = (
        signal.signal(signal.SIGTERM, signal.SIG_DFL),
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # as nohup does
    try:
        with reach(Target(release="masters")):
            assert callable(signal.getsignal(signal.SIGTERM))
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_a_thread_may_reach_a_cluster_too(kubectl):
    found = []

    def ask():
        with reach(Target(release="masters")) as access:
            found.append(access.name)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(30)
    assert found == ["masters"]


def test_versions_that_do_not_match_are_one_line_with_both(kubectl, server):
    with reach(Target(release="masters")) as access:
        words = version_line(access)
    assert ray.__version__ in words
    assert "2.58.0" in words
    assert "\n" not in words
    server.version = ray.__version__
    with reach(Target(release="masters")) as access:
        assert version_line(access) is None


def test_a_release_is_found_by_its_label_and_jobs_of_others_are_not(kubectl):
    rayjob = cluster("masters-x7", "masters", **{"ray.io/originated-from-crd": "RayJob"})
    clusters(kubectl, cluster("masters-ray", "masters"), rayjob, cluster("other"))
    with reach(Target(release="masters")) as access:
        assert access.name == "masters-ray"


def test_a_cluster_without_a_token_is_asked_for_none(kubectl, server):
    clusters(kubectl, cluster("masters", mode=""))
    server.token = ""
    (kubectl / "secret.json").unlink()
    with reach(Target(release="masters")) as access:
        assert access.headers == {}


def test_the_secret_that_the_cluster_names_is_taken(kubectl):
    named = cluster("masters")
    named["spec"]["authOptions"]["secretName"] = "my-token"
    clusters(kubectl, named)
    with reach(Target(release="masters")):
        pass
    assert "get secret my-token -o json" in (kubectl / "calls").read_text()


def broken(place):
    (place / "broken").touch()


def no_key(place):
    (place / "secret.json").write_text('{"metadata": {"name": "masters"}, "data": {}}')


def another_token(place):
    data = {"auth_token": base64.b64encode(b"another-clusters-token").decode()}
    (place / "secret.json").write_text(json.dumps({"metadata": {"name": "masters"}, "data": data}))


@pytest.mark.parametrize(
    ("change", "target", "words"),
    [
        (
            None,
            Target(release="mastrs"),
            "release mastrs: must name one cluster and names 0. RayClusters there: masters, other",
        ),
        (None, Target(namespace="a"), "--release in namespace a: must name one cluster and names 2"),
        (lambda place: clusters(place), Target(release="x"), "There is no RayCluster"),
        (lambda place: (place / "secret.json").unlink(), Target(release="masters"), 'secrets "masters" is forbidden'),
        (no_key, Target(release="masters"), "Secret masters: has no key auth_token"),
        (another_token, Target(release="masters"), "masters-head-svc: the cluster refuses the token from its Secret"),
        (broken, Target(release="masters"), "pod is not running. Current status=Pending. Is the head pod ready?"),
        (None, Target(address="http://127.0.0.1:9"), "http://127.0.0.1:9: no Ray job server answers there"),
        (None, Target(), "which cluster? Name one: --address"),
    ],
)
def test_what_is_missing_is_one_line(kubectl, change, target, words):
    if change:
        change(kubectl)
    with pytest.raises(ValueError) as caught, reach(target):
        pass
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert not (kubectl / "pid").exists() or not alive(kubectl)


def test_without_kubectl_an_address_is_asked_for(kubectl, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(ValueError, match=r"kubectl is not on PATH. Install it, or name --address"),
        reach(Target(release="x")),
    ):
        pass


def test_the_address_in_the_environment_is_used_only_where_none_is_given(kubectl, server, monkeypatch):
    server.token = ""
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{server.port}")
    with reach(Target()) as access:
        assert access.url == f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    with reach(Target(address=f"http://127.0.0.1:{server.port}")) as access:
        assert access.url == f"http://127.0.0.1:{server.port}"


def test_the_options_that_name_a_cluster_again():
    assert Target(namespace="a", release="b").options == " -n a --release b"
    assert Target(address="http://h:1").options == " --address http://h:1"
