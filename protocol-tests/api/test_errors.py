"""Every example of an error in docs/openapi.yaml is the answer of a real server to some request."""

import json
import re
import socket
import unittest

import document
from exchange import head, send, signed
from servers import APP, METRICS_TOKEN, REPOSITORY, Server

# The app of the examples.
APP_OF_EXAMPLES = APP | {"id": "app-id", "key": "app-key", "secret": "a-secret-of-the-tests"}
EVENTS, BATCH, CHANNELS = (f"/apps/app-id/{name}" for name in ("events", "batch_events", "channels"))
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="


def publish(body, path=EVENTS, **changes):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return signed("POST", path, body=body, app=APP_OF_EXAMPLES, **changes)


def event(**members):
    whole = {"name": "e", "channel": "news", "data": "1"} | members
    return publish({name: value for name, value in whole.items() if value is not None})


def batch(*events):
    return publish({"batch": events}, BATCH)


def ask(path, *query, **changes):
    return signed("GET", path, query, app=APP_OF_EXAMPLES, **changes)


BAD_REQUEST = {
    "unknown_key": ask(CHANNELS, auth_key="nobodys-key"),
    "repeated_parameter": ask(CHANNELS, ("auth_key", "app-key")),
    "ambiguous_parameter": ask(CHANNELS, ("a&b", "c")),
    "no_app_id": head("GET", "/apps//channels"),
    "path_encoding": head("GET", "/apps/%FF/channels"),
    "no_json": publish(b"[]"),
    "no_utf8": publish(b"\xff"),
    "json_syntax": publish(b"{"),
    "name": event(name=""),
    "data": event(data=None),
    "no_channel": event(channel=None),
    "channel_type": event(channel=1),
    "channels_type": event(channels="news"),
    "channels_number": event(channels=["news"] * 101),
    "channel_characters": event(channel="a b"),
    "channel_length": event(channel="a" * 201),
    "channel_empty": event(channel=""),
    "socket_id": event(socket_id="123"),
    "info_type": event(info=1),
    "idempotency_key": event(idempotency_key=""),
    "idempotency_header": publish({"name": "e", "channel": "news", "data": "1"}, lines=[f"X-Idempotency-Key: {'k' * 129}"]),
    "idempotency_repeated": publish({"name": "e", "channel": "news", "data": "1"}, lines=["X-Idempotency-Key: k"] * 2),
    "no_batch": publish({}, BATCH),
    "batch_number": batch(*[{"name": "e", "channel": "news", "data": "1"}] * 11),
    "batch_event": batch({"name": "e", "channel": "news", "data": "1"}, {"channel": "news", "data": "1"}),
    "batch_channels": batch({"name": "e", "channels": ["news"], "data": "1"}),
    "batch_no_channel": batch({"name": "e", "data": "1"}),
    "info": ask(CHANNELS, ("info", "users")),
    "no_presence_channel": ask(f"{CHANNELS}/news", ("info", "user_count")),
    "no_cache_channel": ask(f"{CHANNELS}/news", ("info", "cache")),
    "users_of_other_channel": ask(f"{CHANNELS}/news/users"),
    "user_id": signed("POST", f"/apps/app-id/users/{'a' * 185}/terminate_connections", app=APP_OF_EXAMPLES),
    "broken_body": (publish(b"{}")[:-1], True),
    "handshake_key": head("GET", "/app/app-key", *UPGRADE, "Sec-WebSocket-Key: short"),
    "handshake_body": head("GET", "/app/app-key", *UPGRADE, KEY, "Content-Length: 1") + b"x",
    "handshake_repeated": head("GET", "/app/app-key", *UPGRADE, KEY, "Origin: http://a.example", "Origin: http://b.example"),
    "no_host": head("GET", "/up", host=None),
    "several_hosts": head("GET", "/up", "Host: b.example"),
    "host": head("GET", "/up", host="Host: a b"),
    "target_host": head("GET", "http://user@a.example/up"),
    "transfer_encoding": head("POST", EVENTS, "Transfer-Encoding: gzip, chunked"),
    "unreadable": b"GET /up HTTP/1.1\r\nno header\r\n\r\n",
}
UNAUTHORIZED = {
    "no_key": ask(CHANNELS, auth_key=None),
    "other_key": ask(CHANNELS, auth_key="disabled-key"),
    "no_version": ask(CHANNELS, auth_version=None),
    "version": ask(CHANNELS, auth_version="2.0"),
    "no_timestamp": ask(CHANNELS, auth_timestamp=None),
    "timestamp": ask(CHANNELS, auth_timestamp="1000000000"),
    "no_signature": re.sub(rb"&auth_signature=\w+", b"", ask(CHANNELS)),
    "signature": re.sub(rb"(auth_signature)=\w+", rb"\1=00", ask(CHANNELS)),
    "no_body_md5": publish({}, body_md5=None),
    "body_md5": publish({}, body_md5="0"),
}
OTHERS = {
    "Forbidden": {"disabled": signed("GET", "/apps/disabled/channels", app={"key": "disabled-key", "secret": "disabled-secret"})},
    "NotFound": {"app": head("GET", "/apps/nope/channels"), "path": head("GET", "/apps/app-id/nope"),
                 "metrics": head("GET", "/metrics")},
    "MethodNotAllowed": {"get": head("POST", CHANNELS), "post": head("GET", EVENTS), "get_head": head("POST", "/up")},
    "TooLarge": {"data": event(data="a" * 102_401),
                 "batch_data": batch({"name": "e", "channel": "news", "data": "a" * 102_401}),
                 "body": ask(CHANNELS, lines=["Content-Length: 1048577"])},
    "EncodedBody": {"encoded": head("POST", EVENTS, "Content-Encoding: gzip")},
    "ExpectationFailed": {"expect": head("GET", "/up", "Expect: nothing")},
    "UpgradeRequired": {"no_upgrade": head("GET", "/app/app-key"),
                        "version": head("GET", "/app/app-key", *UPGRADE[:2], "Sec-WebSocket-Version: 8", KEY)},
    "HeadTooLarge": {"bytes": head("GET", "/up", f"X: {'x' * 32_768}"), "lines": head("GET", "/up", *["X: x"] * 100)},
}
# Settings of the server and of its app, and the errors that a server with them answers.
SERVERS = [
    ('[[apps]]\nid = "disabled"\nkey = "disabled-key"\nsecret = "disabled-secret"\nenabled = false', {},
     {"BadRequest": BAD_REQUEST, "Unauthorized": UNAUTHORIZED} | OTHERS),
    (f'[metrics]\ntoken = "{METRICS_TOKEN}"', {}, {"MetricsUnauthorized": {"token": head("GET", "/metrics")}}),
    ("", {"secret": "app-secret"}, {"Forbidden": {"development_app": head("GET", CHANNELS, host="Host: a.example")}}),
    ("request_timeout_s = 1", {}, {"RequestTimeout": {"body": publish(b"{}")[:-1]}}),
    ("max_head_bytes = 131072", {}, {"UriTooLong": {"target": head("GET", f"/{'x' * 65_534}")}}),
    ("", {"requests_per_second": 1}, {"TooManyRequests": {"requests": ask(CHANNELS)}}),
    ("[connection]\nnew_connections_per_second_per_ip = 1", {}, {"TooManyRequests": {"connections": ask(CHANNELS)}}),
]
# Errors of another listener, which has an address of its own.
METRICS_HOST = "127.0.0.5"
METRICS_LISTENER = {"NotFound": {"metrics_listener": head("GET", "/up")}}
# Errors of a server that ends, and of one without its Redis. Tests of the suites `rust` and `cluster` cause them.
IN_THE_SOURCE = {"Unavailable": ["draining", "redis"], "NotPublished": ["draining", "redis", "outcome_unknown"]}


def examples(name):
    content = document.resolved({"$ref": f"#/components/responses/{name}"}).get("content", {})
    return content.get("application/json", {}).get("examples", {})


def shown(text):
    """A message without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "…", text)
    return re.sub(r"auth_timestamp=\d+|within \d+ s$", "…", text)


class Errors(unittest.TestCase):
    def causes(self, port, errors, host="127.0.0.1"):
        """Checks that each request is answered with the example."""
        for name, requests in errors.items():
            for example, request in requests.items():
                with self.subTest(f"{name}/{example}"):
                    self.check(name, example, self.error(port, host, *request if isinstance(request, tuple) else (request,)))

    def error(self, port, host, *request):
        """The first answer that is an error: the first requests are within the limits of a rate."""
        answers = (send(port, *request, host=host) for _ in range(10))
        return next(answer for answer in answers if answer.status != 200)

    def check(self, name, example, answer):
        expected = examples(name)[example]["value"]
        self.assertEqual((answer.status, answer.json["code"]), (expected["code"], expected["code"]), answer.text)
        self.assertEqual(shown(answer.json["error"]), shown(expected["error"]))
        document.check_answer({"responses": {str(answer.status): {"$ref": f"#/components/responses/{name}"}}}, answer)

    def test_each_example_is_what_a_server_answers(self):
        for settings, changes, errors in SERVERS:
            with Server(app=APP_OF_EXAMPLES | changes, settings=settings) as server:
                self.causes(server.port, errors)

    def test_the_metrics_listener_has_an_example(self):
        # An address that only this test listens on, so that the port stays free until the server has it.
        with socket.socket() as listener:
            listener.bind((METRICS_HOST, 0))
            port = listener.getsockname()[1]
        with Server(settings=f'[metrics]\nlisten = "{METRICS_HOST}:{port}"'):
            self.causes(port, METRICS_LISTENER, METRICS_HOST)

    def test_examples_that_need_a_failure_are_in_the_source(self):
        files = [REPOSITORY / "src/http" / name for name in ("response.rs", "serve.rs")]
        text = re.sub(r"\\\n\s*", "", "".join(file.read_text(encoding="utf-8") for file in files))
        for name, failures in IN_THE_SOURCE.items():
            for example in failures:
                self.assertIn(f'"{examples(name)[example]["value"]["error"]}"', text)

    def test_every_example_is_tested(self):
        tables = [errors for _, _, errors in SERVERS] + [METRICS_LISTENER, IN_THE_SOURCE]
        tested = {(name, example) for errors in tables for name, requests in errors.items() for example in requests}
        documented = {(name, example) for name in document.load()["components"]["responses"] for example in examples(name)}
        self.assertEqual(tested, documented)


if __name__ == "__main__":
    unittest.main()
