"""Requests that docs/openapi.yaml describes, and others that it excludes, to a real server.

schemathesis draws them. More of them, with another seed:

    CAMPANILE_API_EXAMPLES=2000 CAMPANILE_SEED=7 ../../target/api/bin/python -m unittest test_requests.Drawn
"""

import base64
import os
import subprocess
import sys
import unittest
from pathlib import Path

import document
from exchange import head, send, signed
from servers import APP, METRICS_TOKEN, OPENAPI, Server

EXAMPLES = os.environ.get("CAMPANILE_API_EXAMPLES", "40")
SEED = os.environ.get("CAMPANILE_SEED", "1")
FOLDER = Path(__file__).resolve().parent
METRICS = f'[metrics]\ntoken = "{METRICS_TOKEN}"'
HISTORY = '[[apps.history]]\nprefix = "presence-room"\nseconds = 60'
# An event, and a batch.
BODY = b'{"name":"e","channel":"news","data":"1","batch":[]}'


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.port = self.enterContext(Server(settings=METRICS, app_tables=HISTORY)).port

    def drawn(self, *arguments):
        """Has schemathesis send requests of `arguments`."""
        command = [Path(sys.executable).parent / "st", "run", OPENAPI, "--url", f"http://127.0.0.1:{self.port}",
                   "--seed", SEED, "--continue-on-failure", "--no-color", *arguments]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks"}
        run = subprocess.run(command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, check=False, timeout=600)
        self.assertEqual(run.returncode, 0, f"seed {SEED}:\n{run.stdout}")
        self.assertRegex(run.stdout, r"\d{2,} generated, \d+ passed", "no request was sent")


class Drawn(ServerTest):
    """No answer has a 5xx or an undocumented status, and each has the documented type, headers and body."""

    def test_the_examples_and_the_edges_of_each_schema(self):
        self.drawn("--phases", "examples,coverage")

    def test_requests_that_conform(self):
        self.drawn("--phases", "fuzzing", "--mode", "positive", "--max-examples", EXAMPLES)

    def test_requests_that_do_not_conform(self):
        self.drawn("--phases", "fuzzing", "--mode", "negative", "--max-examples", EXAMPLES)


class Signatures(ServerTest):
    """Each operation of an app answers requests with a valid signature, and rejects others as it is documented."""

    def calls(self):
        """Operation, method and path of each operation that needs a signature."""
        for template, method, operation in document.operations():
            if template.startswith("/apps/") and method != "options":
                path = template.format(app_id=APP["id"], channel="presence-room", user_id="ann")
                yield operation, method.upper(), path

    def answers_with(self, status, request_of):
        count = 0
        for operation, method, path in self.calls():
            with self.subTest(operation=operation["operationId"]):
                answer = send(self.port, request_of(method, path, BODY if "requestBody" in operation else b""))
                self.assertEqual(answer.status, status, answer.text)
                document.check_answer(operation, answer)
                count += 1
        self.assertEqual(count, sum(1 for _ in self.calls()))
        self.assertGreaterEqual(count, 12)

    def test_a_signed_request_is_answered(self):
        self.answers_with(200, lambda method, path, body: signed(method, path, body=body))

    def test_an_unsigned_request_is_rejected(self):
        self.answers_with(401, lambda method, path, body: head(method, path, f"Content-Length: {len(body)}") + body)

    def test_each_signing_parameter_is_required(self):
        for name in ("auth_key", "auth_timestamp", "auth_version"):
            with self.subTest(name):
                self.answers_with(401, lambda method, path, body: signed(method, path, body=body, **{name: None}))

    def test_another_secret_is_rejected(self):
        other = APP | {"secret": "guess"}
        self.answers_with(401, lambda method, path, body: signed(method, path, body=body, app=other))

    def test_a_signature_of_another_path_is_rejected(self):
        def moved(method, path, body):
            return signed(method, f"{path}x", body=body).replace(f"{path}x".encode(), path.encode(), 1)

        self.answers_with(401, moved)

    def test_a_changed_body_is_rejected(self):
        def changed(method, path, body):
            body = body or b"{}"
            return signed(method, path, body=body)[:-1] + b" "

        self.answers_with(401, changed)

    def test_an_old_signature_is_rejected(self):
        self.answers_with(401, lambda method, path, body: signed(method, path, body=body, auth_timestamp="1000000000"))

    def test_an_unknown_key_is_rejected(self):
        self.answers_with(400, lambda method, path, body: signed(method, path, body=body, auth_key="nobodys-key"))


class Others(ServerTest):
    def test_a_handshake_is_answered_with_101(self):
        lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}"]
        for key in (APP["key"], "unknown"):
            answer = send(self.port, head("GET", f"/app/{key}?protocol=7", *lines))
            self.assertEqual(answer.status, 101)
            document.check_answer(document.operation("GET", "/app/key"), answer)

    def test_a_preflight_says_what_pages_may_do(self):
        for path, method in [("events", "POST"), ("channels", "GET")]:
            answer = send(self.port, head("OPTIONS", f"/apps/{APP['id']}/{path}", "Origin: https://a.example"))
            self.assertEqual((answer.status, answer.headers["Access-Control-Allow-Methods"]), (204, method))
            operation = document.operation("OPTIONS", f"/apps/{APP['id']}/{path}")
            document.check_answer(operation, answer)
            headers = document.resolved(operation["responses"]["204"])["headers"]
            self.assertEqual([name for name in headers if name not in answer.headers], [])

    def test_a_request_id_is_returned(self):
        answer = send(self.port, head("GET", "/up", "X-Request-Id: checkout-7"))
        self.assertEqual(answer.headers["X-Request-Id"], "checkout-7")


if __name__ == "__main__":
    unittest.main()
