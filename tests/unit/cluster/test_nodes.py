"""Nodes by group, what was taken away, and what they cost."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from masters.cluster.access import Access
from masters.cluster.nodes import NodeLife, _life, _pending, cost_line, nodes_line, parse_prices, read_pending

LIVES = [
    NodeLife("head", alive=True, taken=False, hours=2),
    NodeLife("generate", alive=True, taken=False, hours=1),
    NodeLife("generate", alive=False, taken=True, hours=0.5),
    NodeLife("generate", alive=False, taken=False, hours=0.5),
    NodeLife("train", alive=False, taken=False, hours=1),
]


def node(**fields):
    given = {
        "is_head_node": False, "labels": {"ray.io/node-group": "generate"}, "state": "DEAD", "state_message": None,
        "start_time_ms": 1_000, "end_time_ms": 1_801_000,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **fields})


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        ("Terminated due to preemption: SIGTERM", True),
        ("Unexpected termination: health check failed", True),
        ("Terminated due to idle (no Ray activity): idle for 15 s", False),
        ("Expected termination: received SIGTERM", False),
        (None, False),
    ],
)
def test_what_counts_as_taken_away(message, taken):
    assert _life(node(state_message=message), 9e9) == NodeLife("generate", alive=False, taken=taken, hours=0.5)


def test_a_living_node_counts_until_now():
    alive = _life(node(state="ALIVE", end_time_ms=0), now=3_601_000)
    assert alive == NodeLife("generate", alive=True, taken=False, hours=1.0)
    assert _life(node(is_head_node=True, state="ALIVE"), now=3_601_000).group == "head"
    assert _life(node(labels={}, state="ALIVE"), now=3_601_000).group == "others"


def test_groups_in_one_line():
    assert nodes_line(LIVES) == "generate 1 up, 1 preempted, 1 gone   head 1 up   train 0 up, 1 gone"


def test_what_is_on_its_way_is_in_the_line():
    said = nodes_line(LIVES, {"train": 2, "generate-ondemand": 1})
    assert said == (
        "generate 1 up, 1 preempted, 1 gone   generate-ondemand 0 up, 1 pending   head 1 up   train 0 up, 2 pending, 1 gone"
    )


def report(*pending, launches=()):
    """What the dashboard answers, by Ray's own formatter."""
    from ray.autoscaler.v2.schema import ClusterStatus, LaunchRequest, NodeInfo, Stats
    from ray.autoscaler.v2.utils import ClusterStatusFormatter

    def one(group, pod="", details=None):
        return NodeInfo(group, group, pod, "10.0.0.1", details=details)

    status = ClusterStatus(
        active_nodes=[one("headgroup", "head"), one("generate", "up")],
        idle_nodes=[one("judge", "idle")],
        pending_launches=[LaunchRequest(group, group, 1, LaunchRequest.Status.PENDING, 0) for group in launches],
        failed_launches=[LaunchRequest("judge", "judge", 1, LaunchRequest.Status.FAILED, 0, 0)],
        pending_nodes=[one(group, pod, "ALLOCATED") for group, pod in pending],
        failed_nodes=[one("train", "failed")],
        stats=Stats(request_ts_s=0),
    )
    return ClusterStatusFormatter.format(status)


def test_pending_workers_are_read_out_of_rays_report():
    assert _pending(report(("train", "lab-train-worker-x2"), ("train", ""), launches=("generate", "train"))) == {
        "generate": 1,
        "train": 3,
    }
    assert _pending(report()) == {}
    assert _pending("") == {}


def test_the_dashboard_is_asked_with_the_token():
    asked = []

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(200)
            self.end_headers()
            words = report(("generate", "lab-generate-worker-x2"))
            self.wfile.write(json.dumps({"result": True, "data": {"clusterStatus": words}}).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Dashboard) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        assert read_pending(Access(None, "lab", url, {"Authorization": "Bearer t"})) == {"generate": 1}
        http.shutdown()
    assert asked == [("/api/cluster_status?format=1", "Bearer t")]


def test_cost_by_group_and_what_has_no_price():
    said = cost_line(LIVES, {"generate": 0.5, "train": 20.0, "judge": 1.0})
    assert said == "$21.00 so far: generate 1.00 (2.0 h), train 20.00 (1.0 h)   no price: head   no node yet: judge"


def test_prices_are_read():
    assert parse_prices(["generate=0.71", "head=0"]) == {"generate": 0.71, "head": 0.0}


@pytest.mark.parametrize("text", ["generate", "=1", "generate=-1", "generate=much", "generate=inf", "generate=nan"])
def test_a_price_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"--price .*: must be GROUP=DOLLARS_PER_HOUR"):
        parse_prices([text])
