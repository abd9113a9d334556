"""The SDK from PyPI accepts what `campanile webhooks test` sends as a webhook."""

import json
import os
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pusher

from server import APP, CAMPANILE_BIN, DEADLINE_S

EVENTS = [
    "channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss",
    "subscription_count", "user_online", "user_offline",
]


class Sink(ThreadingHTTPServer):
    """An endpoint that records the headers and the body of each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.requests.append((self.headers, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def try_out(url):
    """Runs the command for one webhook; returns its output."""
    app = "\n".join(f"{key} = {json.dumps(value)}" for key, value in APP.items())
    webhook = f"[[apps.webhooks]]\nurl = {json.dumps(url)}\nevents = {json.dumps(EVENTS)}\n"
    with tempfile.TemporaryDirectory(prefix="campanile-python-") as folder:
        Path(folder, "config.toml").write_text(f"[[apps]]\n{app}\n{webhook}", encoding="utf-8")
        command = [CAMPANILE_BIN, "webhooks", "test"]
        env = {"PATH": os.environ["PATH"]}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S)
        if done.returncode:
            raise RuntimeError(f"the command ended with {done.returncode}:\n{done.stdout}{done.stderr}")


class Webhooks(unittest.TestCase):
    def setUp(self):
        sink = self.enterContext(Sink())
        try_out(f"http://127.0.0.1:{sink.server_port}/hooks")
        self.requests = sink.requests
        self.sdk = pusher.Pusher(app_id=APP["id"], key=APP["key"], secret=APP["secret"])

    def read(self, headers, body):
        return self.sdk.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], body)

    def test_each_kind_is_verified_and_read(self):
        webhooks = [self.read(headers, body) for headers, body in self.requests]

        self.assertEqual([webhook["events"][0]["name"] for webhook in webhooks], EVENTS)
        self.assertTrue(all(isinstance(webhook["time_ms"], int) for webhook in webhooks))

    def test_what_was_changed_is_rejected(self):
        headers, body = self.requests[0]

        self.assertIsNotNone(self.read(headers, body))
        self.assertIsNone(self.read(headers, body.replace("test", "tset")))


if __name__ == "__main__":
    unittest.main()
