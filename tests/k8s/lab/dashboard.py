"""The job server of a head, played: pods of the control plane do not run. Whoever asks through it as a proxy meets it.

Jobs live as long as the process, as those of a head without fault tolerance do: `dashboard.py ADDRESS PORT SECONDS` ends each with
success so many seconds after it came. A line when it listens, and one for each that is submitted.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

JOBS: dict[str, float] = {}
"""Submission id -> when it came."""


class Answer(BaseHTTPRequestHandler):
    """As far as KubeRay asks."""

    lasts: float = 0.0

    def do_GET(self):
        job = urlsplit(self.path).path.removeprefix("/api/jobs/")
        if job not in JOBS:
            return self.answer(404, {"error": "no such job"})
        began, ended = JOBS[job], JOBS[job] + self.lasts
        known = {"submission_id": job, "type": "SUBMISSION", "entrypoint": "true", "start_time": int(began * 1000)}
        if time.time() < ended:
            return self.answer(200, {**known, "status": "RUNNING"})
        return self.answer(200, {**known, "status": "SUCCEEDED", "end_time": int(ended * 1000)})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        job = asked.get("submission_id", "")
        if urlsplit(self.path).path != "/api/jobs/" or not self.headers.get("x-ray-authorization"):
            return self.answer(401, {"error": "no token"})
        JOBS[job] = time.time()
        print("submitted", job, flush=True)
        return self.answer(200, {"job_id": job, "submission_id": job})

    def answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


if __name__ == "__main__":
    Answer.lasts = float(sys.argv[3])
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer)
    print("listening", flush=True)
    server.serve_forever()
