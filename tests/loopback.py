"""An OpenAI-compatible server on this machine's loopback that does what a script tells it, at once or slowly or not at all."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scripted(ThreadingHTTPServer):
    """`script(number, body)` says what the number-th request gets: a text, or a function of the request's handler."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.times, self.keys = script, [], [], []
        self.inside = self.most_inside = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Clients that went away are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Not on the terminal."""

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append(body)
            server.times.append(time.monotonic())
            server.keys.append(self.headers["Authorization"])
            number = len(server.seen) - 1
            server.inside += 1
            server.most_inside = max(server.most_inside, server.inside)
        try:
            does = server.script(number, body)
            if isinstance(does, str):
                self.answer(does)
            else:
                does(self)
        finally:
            with server.lock:
                server.inside -= 1

    def answer(self, text, tokens=100):
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
        self.send(
            200,
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [message], "usage": usage},
        )

    def send(self, status, body, **headers):
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(script):
    """The server, until the block ends."""
    server = Scripted(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def user_text(body):
    """What the user's turn of a request says."""
    return body["messages"][-1]["content"]


def honest(number, body):
    """A judge that finds `red` right; told its own words, it gives their score."""
    said = user_text(body)
    if "<overall_summary " in said:
        return "1" if "same" in said else "0"
    return (
        "the same <answer>1</answer>" if "\nred\n" in said.split("<generated text ")[1] else "other <answer>0</answer>"
    )


def too_many(after):
    """HTTP 429 that asks for a pause of so many seconds."""
    return lambda handler: handler.send(429, {"error": {"message": "slow down"}}, Retry_After=after)


def broken(status, text="no"):
    """An error of HTTP."""
    return lambda handler: handler.send(status, {"error": {"message": text}})


def page(handler):
    """What proxies say: HTTP 200, and no JSON."""
    handler.send(200, "<html>Welcome</html>")


def odd(body):
    """HTTP 200 with JSON that is no chat completion."""
    return lambda handler: handler.send(200, body)


def hang_up(handler):
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def half(handler):
    """A body that ends before its length."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def slow(seconds):
    """No answer for so long."""

    def wait(handler):
        time.sleep(seconds)
        handler.answer("1")

    return wait


def trickle(handler):
    """A byte now and then: no single read takes long, the answer never comes."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
