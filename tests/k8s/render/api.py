"""The few answers of an API server that `helm template --dry-run=server` and its `lookup` ask for."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KINDS = {
    "v1": ("ServiceAccount", "PersistentVolumeClaim", "Pod"),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
    "ray.io/v1": ("RayCluster",),
}


def discovery() -> dict[str, dict]:
    """Path -> answer: which kinds there are."""
    answers: dict[str, dict] = {"/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}}
    groups = []
    for version, kinds in KINDS.items():
        resources = [{"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in kinds]
        path = "/api/v1" if version == "v1" else f"/apis/{version}"
        answers[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if version != "v1":
            name, short = version.split("/")
            served = {"groupVersion": version, "version": short}
            groups.append({"name": name, "versions": [served], "preferredVersion": served})
    answers["/api"] = {"kind": "APIVersions", "versions": ["v1"]}
    answers["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return answers


MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@contextmanager
def serving(cluster: dict, folder: Path) -> Iterator[Path]:
    """A kubeconfig of a server on this machine that holds one RayCluster."""
    meta = cluster["metadata"]
    path = f"/apis/ray.io/v1/namespaces/{meta['namespace']}/rayclusters/{meta['name']}"
    answers = discovery() | {path: cluster}

    class Answer(BaseHTTPRequestHandler):
        """GET only."""

        def do_GET(self):
            found = answers.get(self.path.split("?")[0])
            body = json.dumps(found or MISSING).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = {"name": "fake", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": ""}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [one], "contexts": [context], "current-context": "fake"}
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
