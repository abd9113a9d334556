#!/usr/bin/env python3
"""Measures what TLS costs the server: the CPU time of a connection, with a full handshake and with a resumed session, and the memory of an
idle connection.

    cargo build --release --bin campanile
    python3 examples/tls.py target/release/campanile

Needs openssl, Python 3.11 and Linux. Prints CPU time from accept to the greeting, by the server's process.
"""

import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from local_server import free_port, start

KEY = "measured-key"
CONNECTIONS = 2_000
ROUNDS = 3
REQUEST = (
    f"GET /app/{KEY}?protocol=7&client=js&version=8.4.0 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: bG9hZC1sb2FkLWxvYWQtbA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
CONFIG = """[server]
shards = 1
{tls}[log]
level = "warn"
[[apps]]
id = "measured"
key = "{key}"
secret = "measured-secret"
"""
TLS = '[server.tls]\ncert = "{folder}/{kind}-cert.pem"\nkey = "{folder}/{kind}-key.pem"\n'
# The kinds of certificates, and how openssl makes their keys.
KINDS = {"P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "RSA 2048": ["rsa:2048"]}


class Server:
    """A server with a certificate of a kind, or without TLS."""

    def __init__(self, binary, folder, kind):
        self.port = free_port()
        self.context = ssl.create_default_context(cafile=f"{folder}/{kind}-cert.pem") if kind else None
        config = f"{folder}/config.toml"
        with open(config, "w") as file:
            file.write(CONFIG.format(tls=TLS.format(folder=folder, kind=kind) if kind else "", key=KEY))
        self.process = start(binary, config, self.port)

    def connect(self, session=None):
        """Opens a WebSocket, and reads the greeting."""
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if self.context:
            stream = self.context.wrap_socket(stream, server_hostname="localhost", session=session)
        stream.sendall(REQUEST)
        received = b""
        while b"connection_established" not in received:
            data = stream.recv(4_096)
            if not data:
                sys.exit("the server closed a connection")
            received += data
        return stream

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            user, system = file.read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def stop(self):
        self.process.kill()
        self.process.wait()


def cpu_us(server, is_resumed):
    """CPU time of a connection that is opened and closed."""
    session = None
    if is_resumed:
        with server.connect() as first:
            session = first.session
    before = server.cpu_s()
    for _ in range(CONNECTIONS):
        with server.connect(session) as stream:
            if is_resumed and not stream.session_reused:
                sys.exit("the session was not resumed")
            session = stream.session if is_resumed else None
    time.sleep(0.1)
    return (server.cpu_s() - before) / CONNECTIONS * 1e6


def memory_kib(server):
    """Memory of the server for each idle connection."""
    before = server.rss_kib()
    streams = [server.connect() for _ in range(CONNECTIONS)]
    time.sleep(1)
    growth = server.rss_kib() - before
    for stream in streams:
        stream.close()
    return growth / CONNECTIONS


def certificate(folder, kind):
    command = ["openssl", "req", "-x509", "-newkey", *KINDS[kind], "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", f"{folder}/{kind}-key.pem", "-out", f"{folder}/{kind}-cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


def measured(binary, folder, kind, measure):
    """Of a fresh server, since memory that was freed once is used again."""
    server = Server(binary, folder, kind)
    try:
        return measure(server)
    finally:
        server.stop()


FIGURES = [
    ("CPU of a connection without TLS, µs", None, lambda server: cpu_us(server, False)),
    ("… certificate P-256, full handshake, µs", "P-256", lambda server: cpu_us(server, False)),
    ("… certificate P-256, resumed session, µs", "P-256", lambda server: cpu_us(server, True)),
    ("… certificate RSA 2048, full handshake, µs", "RSA 2048", lambda server: cpu_us(server, False)),
    ("… certificate RSA 2048, resumed session, µs", "RSA 2048", lambda server: cpu_us(server, True)),
    ("memory of an idle connection without TLS, KiB", None, memory_kib),
    ("… with TLS, KiB", "P-256", memory_kib),
]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            certificate(folder, kind)
        print(f"| {CONNECTIONS:,} connections, one after the other | median of {ROUNDS} |\n|---|---:|")
        for name, kind, measure in FIGURES:
            rounds = sorted(measured(sys.argv[1], folder, kind, measure) for _ in range(ROUNDS))
            print(f"| {name} | {rounds[ROUNDS // 2]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
