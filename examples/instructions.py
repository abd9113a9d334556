#!/usr/bin/env python3
"""Counts the instructions of a server for what it does most. Unlike times, the counts hardly differ between runs and machines.

    cargo build --release --bin campanile
    python3 examples/instructions.py target/release/campanile

Prints a column for each program that is named, so that an older one can be compared with a newer one; with `--shards 1,2,4` a
column for each number of shards. Needs valgrind and Python 3.11. Only the instructions of the server are counted, not those of
the kernel.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

from local_server import free_port, start

KEY, SECRET = "app-key", "app-secret"
WARM_UP = 30
TIMES = 200
SUBSCRIBERS = 100
RATE = 100
SECONDS = 10


class Server:
    """A server under callgrind."""

    def __init__(self, binary, folder, shards):
        self.port, self.folder = free_port(), folder
        config = os.path.join(folder, "config.toml")
        with open(config, "w") as file:
            file.write(f'[server]\nshards = {shards}\n[connection]\nmax_messages_per_second = 0\n[log]\nlevel = "warn"\n')
            file.write(f'[[apps]]\nid = "app-id"\nkey = "{KEY}"\nsecret = "{SECRET}"\nclient_events_per_second = 0\n')
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counts"]
        self.log = open(os.path.join(folder, "log"), "w+")
        self.process = start(binary, config, self.port, under=callgrind, stderr=self.log)

    def connect(self):
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def counted(self):
        """The instructions since the last call."""
        time.sleep(0.3)
        before = set(os.listdir(self.folder))
        subprocess.run(["callgrind_control", "--dump", str(self.process.pid)], check=True, capture_output=True)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for name in set(os.listdir(self.folder)) - before:
                totals = re.search(r"^totals: (\d+)", open(os.path.join(self.folder, name)).read(), re.MULTILINE)
                if totals:
                    return int(totals[1])
            time.sleep(0.05)
        sys.exit("callgrind writes no counts")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Closed(Exception):
    """The server does not know what the client asks for."""


class Client:
    """A WebSocket connection."""

    def __init__(self, server, token=None):
        self.stream = server.connect()
        self.received = b""
        path = f"/app/resume-{token}" if token else ""
        self.stream.sendall(
            f"GET {path}/app/{KEY}?protocol=7&client=js&version=8.4.0&flash=false HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: bG9hZC1sb2FkLWxvYWQtbA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.received:
            self.more()
        if not self.received.startswith(b"HTTP/1.1 101"):
            raise Closed
        self.received = self.received.split(b"\r\n\r\n", 1)[1]
        established = self.message("pusher:connection_established")
        self.socket_id = json.loads(established["data"])["socket_id"]

    def more(self):
        data = self.stream.recv(65_536)
        if not data:
            sys.exit("the server closed a connection")
        self.received += data

    def send(self, message):
        payload = json.dumps(message, separators=(",", ":")).encode()
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        # A mask of zeros is a mask.
        self.stream.sendall(b"\x81" + length + bytes(4) + payload)

    def take(self):
        """The next message that is complete; None without one."""
        if len(self.received) < 2:
            return None
        length, start = self.received[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(self.received[2:4], "big"), 4
        if len(self.received) < start + length:
            return None
        if self.received[0] & 0x0F == 8:
            raise Closed
        payload, self.received = self.received[start : start + length], self.received[start + length :]
        if payload.startswith(b'{"event":"pusher:ping"'):
            self.send({"event": "pusher:pong", "data": {}})
            return self.take()
        return payload

    def message(self, event):
        """Waits for a message."""
        while True:
            message = self.take()
            if message is None:
                self.more()
            elif message.startswith(f'{{"event":"{event}"'.encode()):
                return json.loads(message)

    def subscribe(self, channel):
        signature = hmac.new(SECRET.encode(), f"{self.socket_id}:{channel}".encode(), hashlib.sha256).hexdigest()
        auth = f"{KEY}:{signature}" if channel.startswith("private-") else ""
        self.send({"event": "pusher:subscribe", "data": {"auth": auth, "channel": channel}})
        self.message("pusher_internal:subscription_succeeded")


class Publisher:
    """A connection of the HTTP API."""

    def __init__(self, server):
        self.stream = server.connect()

    def publish(self, channel):
        body = json.dumps({"name": "e", "channel": channel, "data": "x" * 128})
        query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5="
        query += hashlib.md5(body.encode()).hexdigest()
        text = f"POST\n/apps/app-id/events\n{query}"
        query += "&auth_signature=" + hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        self.stream.sendall(
            f"POST /apps/app-id/events?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = b""
        while not answer.endswith(b"}"):
            answer += self.stream.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(answer.decode())


def publish(server):
    """One event for one subscriber, one after the other."""
    client, publisher = Client(server), Publisher(server)
    client.subscribe("a")

    def act():
        publisher.publish("a")
        client.message("e")

    return act


def connect(server):
    """From the request to the subscription, and the end of the connection."""
    other = Client(server)
    other.subscribe("a")

    def act():
        client = Client(server)
        client.subscribe("a")
        client.stream.close()
        # The channel outlives the connections.
        return other

    return act


def whisper(server):
    """A client event for one other client."""
    sender, receiver = Client(server), Client(server)
    for client in [sender, receiver]:
        client.subscribe("private-a")

    def act():
        sender.send({"event": "client-e", "channel": "private-a", "data": "x" * 128})
        receiver.message("client-e")

    return act


def each(server, prepare):
    act = prepare(server)
    for _ in range(WARM_UP):
        act()
    server.counted()
    for _ in range(TIMES):
        act()
    return server.counted() / TIMES


def delivery(server, tokens):
    """Events at a fixed rate to some subscribers, which acknowledge what they have received if they have tokens."""
    clients = [Client(server, base64.b16encode(os.urandom(8)).decode() if tokens else None) for _ in range(SUBSCRIBERS)]
    for client in clients:
        client.subscribe("a")
    publisher, received = Publisher(server), 0

    def run(count):
        nonlocal received
        received, begun = 0, time.monotonic()
        for number in range(count):
            publisher.publish("a")
            receive(max(0, begun + (number + 1) / RATE - time.monotonic()))
        while received < count * SUBSCRIBERS:
            receive(0.1)

    def receive(seconds):
        nonlocal received
        until = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([client.stream for client in clients], [], [], max(0, until - time.monotonic()))
            if not ready:
                return
            for client in clients:
                if client.stream in ready:
                    client.more()
                    while client.take():
                        received += 1

    run(WARM_UP)
    server.counted()
    run(SECONDS * RATE)
    return server.counted() / (SECONDS * RATE * SUBSCRIBERS)


FIGURES = {
    "a publish, one subscriber": lambda server: each(server, publish),
    "a connection, subscribed to one channel": lambda server: each(server, connect),
    "a client event, one receiver": lambda server: each(server, whisper),
    f"a delivery, {SUBSCRIBERS} subscribers, {RATE} events/s": lambda server: delivery(server, False),
    "… to clients with a token": lambda server: delivery(server, True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("--shards", default="1", help="numbers of shards, with commas")
    options = parser.parse_args()
    columns = [(program, int(shards)) for program in options.programs for shards in options.shards.split(",")]
    heads = [program + (f", {shards} shards" if shards > 1 else "") for program, shards in columns]
    print("| instructions | " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * len(columns))
    for name, measure in FIGURES.items():
        row = []
        for program, shards in columns:
            with tempfile.TemporaryDirectory() as folder:
                server = Server(program, folder, shards)
                try:
                    row.append(f"{measure(server):,.0f}")
                except Closed:
                    row.append("unknown")
                finally:
                    server.stop()
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
