"""Signs requests as a server SDK does."""

import hashlib
import hmac
import time
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import requests


def parameters(secret, method, path, query, body, **changes):
    """`query`, a list of pairs, with the signing parameters. `changes` replaces some before signing, or removes them with None."""
    signing = {"auth_key": None, "auth_timestamp": str(int(time.time())), "auth_version": "1.0"}
    if body:
        signing["body_md5"] = hashlib.md5(body).hexdigest()
    signing |= changes
    signed = sorted([*query, *((name, value) for name, value in signing.items() if value is not None)],
                    key=lambda pair: pair[0].lower())
    text = "&".join(f"{name.lower()}={value}" for name, value in signed)
    signature = hmac.new(secret.encode(), f"{method}\n{path}\n{text}".encode(), hashlib.sha256).hexdigest()
    return [*signed, ("auth_signature", signature)]


def encoded(pairs):
    """`pairs` as the query of a URL."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


class Signature(requests.auth.AuthBase):
    """Signs the requests to an app, as they are sent, and gives those to `/metrics` the token."""

    def __init__(self, app, metrics_token):
        self._app = app
        self._metrics_token = metrics_token

    def __call__(self, request):
        url = urlsplit(request.url)
        if url.path == "/metrics":
            request.headers["Authorization"] = f"Bearer {self._metrics_token}"
        if url.path.startswith("/apps/"):
            body = request.body or b""
            body = body.encode() if isinstance(body, str) else body
            query = parse_qsl(url.query, keep_blank_values=True)
            query = parameters(self._app["secret"], request.method, url.path, query, body, auth_key=self._app["key"])
            request.url = urlunsplit(url._replace(query=encoded(query)))
        return request
