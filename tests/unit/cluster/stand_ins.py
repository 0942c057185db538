"""A kubectl, a job server and the objects of a namespace that stand in for the real ones."""

import json
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

TOKEN = "s3cr3t-t0k3n-0f-a-rayjob"
KUBECTL = f"""#!{sys.executable} -IS
import json, os, sys, time
here = os.path.dirname(__file__)
with open(here + "/calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
words = sys.argv[sys.argv.index("-n") + 2:]
if words[0] == "port-forward":
    if os.path.exists(here + "/no-pod"):
        sys.exit("error: unable to forward port because pod is not running. Current status=Pending")
    print("Forwarding from 127.0.0.1:" + open(here + "/port").read() + " -> 8265", flush=True)
    time.sleep(600)
kind = {{"rayjobs.ray.io": "rayjobs", "rayclusters.ray.io": "rayclusters"}}.get(words[1], words[1])
if os.path.exists(here + "/no-" + kind):
    sys.exit('Error from server (Forbidden): ' + kind + ' is forbidden: User "ana" cannot ' + words[0])
items = json.load(open(f"{{here}}/{{kind}}.json"))
named = words[2] if not words[2].startswith("-") else ""
if named:
    items = [item for item in items if item["metadata"]["name"] == named]
if words[0] == "patch":
    spec = json.loads(words[words.index("-p") + 1])["spec"]
    items[0]["spec"] = {{key: value for key, value in {{**items[0]["spec"], **spec}}.items() if value is not None}}
    after = items[0].pop("after", None) or {{"jobDeploymentStatus": "Suspended"}}  # as the operator does it
    items[0]["status"] = after
    json.dump(items, open(here + "/rayjobs.json", "w"))
print(json.dumps(items[0] if named else {{"items": items}}))
"""


def rayjob(name, run="", seconds=100.0, spec=None, labels=None, after=None, **status):
    made = datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    notes = {"masters/run": run or name, "masters/run-directory": f"s3://bucket/runs/{run or name}"}
    return {
        "metadata": {"name": name, "creationTimestamp": made, "annotations": notes, "labels": labels or {}},
        "spec": {"backoffLimit": 3, "entrypoint": "python -m ray_jobs.pipeline x", "shutdownAfterJobFinishes": True, **(spec or {})},
        "status": status, **({"after": after} if after else {}),
    }  # fmt: skip


RUNNING = {
    "jobDeploymentStatus": "Running",
    "jobStatus": "RUNNING",
    "jobId": "small-1",
    "rayClusterName": "small-x7",
    "failed": 1,
}


def cluster(name, **labels):
    labels = {"app.kubernetes.io/instance": "lab", **labels}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"authOptions": {"mode": "token", "secretName": "ray-token"}},
    }


OF_A_RAYJOB = {"ray.io/originated-from-crd": "RayJob"}


def pod(group, phase="Pending", conditions=(), **status):
    return {
        "metadata": {"labels": {"ray.io/group": group}},
        "status": {"phase": phase, "conditions": list(conditions), **status},
    }


def unscheduled(message):
    return [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]


def waiting(reason, message=""):
    return [{"state": {"waiting": {"reason": reason, "message": message}}}]


class JobServer(BaseHTTPRequestHandler):
    jobs, logs, stopped = None, None, None

    def do_GET(self):
        *_, last = path = self.path.strip("/").split("/")
        if last == "version":
            self.answer({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})
        elif last == "jobs":
            self.answer(list(self.jobs.values()))
        elif last == "logs" and path[-2] in self.logs:
            self.answer({"logs": self.logs[path[-2]]})
        elif last in self.jobs:
            self.answer(self.jobs[last])
        else:
            self.answer({"error": "does not exist"}, 404)

    def do_POST(self):
        if self.path.endswith("/stop"):
            self.stopped.append(self.path.split("/")[-2])
        self.answer({"stopped": True})

    def answer(self, value, status=200):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status = 403
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


def job(name, run, seconds=50.0, status="RUNNING"):
    return {
        "type": "SUBMISSION", "submission_id": name, "status": status, "entrypoint": "python -m ray_jobs.pipeline x",
        "start_time": int((time.time() - seconds) * 1000), "metadata": {"run": run},
    }  # fmt: skip


def calls(there):
    return (there.place / "calls").read_text()


BOTH = {
    "rayjobs": [rayjob("small", **RUNNING), rayjob("other-mask", "other", 20), rayjob("other", "other", 500), rayjob("other-score", "other", 9)],
    "rayclusters": [cluster("lab"), cluster("small-x7", **OF_A_RAYJOB)],
    "jobs": [job("raysubmit_1", "tiny"), job("raysubmit_2", "other", 40), job("raysubmit_3", "tiny", 300)],
    "logs": {"small-1": "prepare   40 samples\ngenerate  12/40 questions\n(x pid=3) noise\n", "raysubmit_1": "mask      2 teachers\n"},
}  # fmt: skip
