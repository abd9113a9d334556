"""Sends one request, byte by byte as it is written here, and reads its answer."""

import http.client
import json
import socket
from dataclasses import dataclass

from servers import APP
from signing import encoded, parameters

DEADLINE_S = 20


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self):
        return json.loads(self.text)


def send(port, request, end=False, host="127.0.0.1"):
    """The answer to the bytes of `request`. With `end`, no more bytes follow them."""
    with socket.create_connection((host, port), timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection, method=request.split(b" ", 1)[0].decode())
        answer.begin()
        text = "" if answer.status == 101 else answer.read().decode()
        return Answer(answer.status, answer.headers, text)


def head(method, target, *lines, host="Host: 127.0.0.1"):
    """The head of a request; `host` is its Host line."""
    every = [f"{method} {target} HTTP/1.1", *([host] if host else []), *lines]
    return ("\r\n".join(every) + "\r\n\r\n").encode()


def signed(method, path, query=(), body=b"", app=APP, lines=(), **changes):
    """A request with a signature; `changes` replaces signing parameters before they are signed."""
    pairs = parameters(app["secret"], method, path, query, body, **({"auth_key": app["key"]} | changes))
    lengths = [f"Content-Length: {len(body)}"] if body else []
    return head(method, f"{path}?{encoded(pairs)}", *lengths, *lines) + body
