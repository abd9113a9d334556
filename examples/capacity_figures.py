#!/usr/bin/env python3
"""Measures what connections, TLS, channels and members cost a node and its Redis, for docs/capacity.md.

    cargo build --release --bin campanile
    python3 examples/capacity_figures.py target/release/campanile

Starts servers of one shard and a Redis on free ports of this machine, opens idle connections to them, and prints a table.
Needs redis-server, openssl, Python 3.11, Linux, and two descriptors for each connection (`ulimit -n`).
"""

import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from local_server import free_port

ID, KEY, SECRET = "1", "capacity-key", "a25b9b3d6c1f4f0b8d7e"
CONNECTIONS = 2_000
CHANNELS = 2_000
MEMBERS = 2_000
MEMBERS_OF_A_CHANNEL = 100
CHANNELS_OF_A_CLIENT = 100
PUBLISHES = 500
IDLE_SECONDS = 30
ROUNDS = 3
# Commands that nodes send. Redis counts those that scripts run as well.
FROM_NODES = ["evalsha", "hscan", "sscan", "ping"]
HELLO = (
    f"GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()


class Server:
    """A server of one shard; `sections` are more lines of its configuration."""

    def __init__(self, program, folder, *sections):
        self.port = free_port()
        config = os.path.join(folder, f"{self.port}.toml")
        lines = [
            f"[server]\nhost = '127.0.0.1'\nport = {self.port}\nshards = 1",
            "[connection]\nmax_messages_per_second = 0\nactivity_timeout_s = 600",
            "[log]\nlevel = 'warn'",
            f"[[apps]]\nid = '{ID}'\nkey = '{KEY}'\nsecret = '{SECRET}'\nmax_presence_members = {MEMBERS}",
            *sections,
        ]
        with open(config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        self.process = subprocess.Popen([program, "start", "--config", config], stdout=subprocess.DEVNULL)
        self.is_tls = any("[server.tls]" in section for section in sections)
        wait(lambda: get(self, "/ready") == 200, "the server is ready")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return 1024 * int(next(line for line in file if line.startswith("VmRSS:")).split()[1])

    def cpu(self):
        return cpu(self.process)


def cpu(process):
    """CPU time of a process in seconds."""
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


def get(server, path):
    scheme = "https" if server.is_tls else "http"
    try:
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{server.port}{path}", timeout=5, context=UNVERIFIED) as reply:
            return reply.status
    except OSError:
        return None


def wait(condition, what):
    end = time.monotonic() + 30
    while not condition():
        if end < time.monotonic():
            sys.exit(f"waited 30 s until {what}")
        time.sleep(0.05)


class Client:
    """A connection that reads what it is sent when it waits for something."""

    def __init__(self, server):
        self.stream = socket.create_connection(("127.0.0.1", server.port))
        if server.is_tls:
            self.stream = UNVERIFIED.wrap_socket(self.stream, server_hostname="localhost")
        self.stream.settimeout(30)
        self.stream.sendall(HELLO)
        self.received = b""
        self.expect(b"connection_established")
        text = self.received.rpartition(b'"socket_id')[2]
        self.socket_id = text.split(b'\\"')[2].decode() if b'\\"' in text else ""

    def expect(self, text, times=1):
        while self.received.count(text) < times:
            more = self.stream.recv(65_536)
            if not more:
                sys.exit(f"closed before {text}: {self.received[-200:]}")
            self.received += more

    def subscribe(self, channel, user=None):
        data = {"channel": channel}
        if user is not None:
            data["channel_data"] = json.dumps({"user_id": user, "user_info": {"name": user}})
            signed = f"{self.socket_id}:{channel}:{data['channel_data']}".encode()
            data["auth"] = f"{KEY}:{hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}"
        payload = json.dumps({"event": "pusher:subscribe", "data": data}).encode()
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        # Masked with zeros.
        self.stream.sendall(b"\x81" + length + b"\0\0\0\0" + payload)
        self.received = b""
        self.expect(b"subscription_succeeded")

    def close(self):
        self.stream.close()


def costs(server, actions):
    """RSS and CPU of the server for each of the actions, and what they returned."""
    warm = [Client(server) for _ in range(50)]
    for client in warm:
        client.subscribe("warm")
    rss, cpu = server.rss(), server.cpu()
    done = [action() for action in actions]
    time.sleep(0.5)
    return (server.rss() - rss) / len(done), (server.cpu() - cpu) / len(done), done + warm


def connected(server):
    client = Client(server)
    client.subscribe("news")
    return client


def certificate(folder):
    names = [os.path.join(folder, name) for name in ["cert.pem", "key.pem"]]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-out", names[0], "-keyout", names[1]]
    subprocess.run(make + subject, check=True, capture_output=True)
    return f"[server.tls]\ncert = '{names[0]}'\nkey = '{names[1]}'"


class Redis:
    def __init__(self, folder):
        self.port = free_port()
        settings = ["--port", str(self.port), "--save", "", "--dir", folder, "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(["redis-server", *settings], stdout=subprocess.DEVNULL)
        wait(self.answers, "Redis answers")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def answers(self):
        try:
            return self.info("used_memory") > 0
        except OSError:
            return False

    def info(self, name, number=r"(\d+)"):
        """A number of `INFO`; 0 if there is no such line."""
        with socket.create_connection(("127.0.0.1", self.port)) as stream:
            stream.sendall(b"INFO everything\r\nQUIT\r\n")
            text = b"".join(iter(lambda: stream.recv(65_536), b"")).decode()
        found = re.search(rf"^{name}:{number}", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def commands(self):
        """The number of commands from nodes, without those that scripts run."""
        return sum(self.info(f"cmdstat_{name}", r"calls=(\d+)") for name in FROM_NODES)

    def cpu(self):
        return cpu(self.process)


def publish(server, stream, number):
    body = json.dumps({"name": "e", "channel": "channel-0", "data": "x" * 128})
    digest = hashlib.md5(body.encode()).hexdigest()
    query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5={digest}"
    path = f"/apps/{ID}/events"
    signature = hmac.new(SECRET.encode(), f"POST\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
    head = f"POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    stream.sendall((head + body).encode())
    reply = b""
    while b"\r\n\r\n{}" not in reply:
        reply += stream.recv(4_096)
    if not reply.startswith(b"HTTP/1.1 200"):
        sys.exit(f"publish {number}: {reply}")


@contextlib.contextmanager
def started(kind, *arguments):
    thing = kind(*arguments)
    try:
        yield thing
    finally:
        thing.stop()


def connections(program, folder, *sections):
    with started(Server, program, folder, *sections) as server:
        rss, cpu, clients = costs(server, [lambda: connected(server)] * CONNECTIONS)
        for client in clients:
            client.close()
    return rss, cpu


def many_channels(server, first, count):
    """Subscribes to `count` channels from `first` on, by clients that take some each."""
    clients = []
    for at in range(first, first + count):
        if (at - first) % CHANNELS_OF_A_CLIENT == 0:
            clients.append(Client(server))
        clients[-1].subscribe(f"channel-{at}")
    return clients


def members(server, count):
    clients = []
    for at in range(count):
        clients.append(Client(server))
        clients[-1].subscribe(f"presence-{at // MEMBERS_OF_A_CHANNEL}", f"user-{at}")
    return clients


def redis_figures(program, folder):
    figures = {}
    with started(Redis, folder) as redis:
        shared = f"[redis]\nurl = 'redis://127.0.0.1:{redis.port}'"
        with started(Server, program, folder, shared) as one, started(Server, program, folder, shared) as other:
            time.sleep(3)
            before = redis.commands()
            time.sleep(IDLE_SECONDS)
            figures["idle"] = (redis.commands() - before) / IDLE_SECONDS / 2
            memory = redis.info("used_memory")
            held = many_channels(one, 0, CHANNELS)
            time.sleep(1)
            figures["channel"] = (redis.info("used_memory") - memory) / CHANNELS
            memory = redis.info("used_memory")
            held += members(other, MEMBERS)
            time.sleep(1)
            figures["member"] = (redis.info("used_memory") - memory) / MEMBERS
            before = redis.commands()
            time.sleep(IDLE_SECONDS)
            figures["busy"] = (redis.commands() - before) / IDLE_SECONDS / 2
            with socket.create_connection(("127.0.0.1", other.port)) as stream:
                publish(other, stream, 0)
                before, cpu_before, began = redis.commands(), redis.cpu(), time.monotonic()
                for number in range(PUBLISHES):
                    publish(other, stream, number)
                elapsed = time.monotonic() - began
                after = redis.commands()
            # Without what the nodes do besides.
            figures["publish"] = (after - before - 2 * figures["busy"] * elapsed) / PUBLISHES
            figures["publish_cpu"] = (redis.cpu() - cpu_before) / PUBLISHES
            for client in held:
                client.close()
    return figures


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        tls = certificate(folder)
        plain = [connections(program, folder) for _ in range(ROUNDS)]
        secure = [connections(program, folder, tls) for _ in range(ROUNDS)]
        with started(Server, program, folder) as server:
            empty = server.rss()
            clients = [connected(server) for _ in range(50)]
            rss = server.rss()
            clients += many_channels(server, 0, 10 * CHANNELS)
            channel = (server.rss() - rss) / (10 * CHANNELS)
            rss = server.rss()
            clients += members(server, MEMBERS)
            member = (server.rss() - rss) / MEMBERS
            clients.clear()
        redis = redis_figures(program, folder)

    def median(rounds, at):
        return statistics.median(one[at] for one in rounds)

    print(f"{os.cpu_count()} cores, Linux {os.uname().release}, medians of {ROUNDS} rounds of {CONNECTIONS:,} connections\n")
    print("| what | memory | CPU |\n|---|---|---|")
    print(f"| a server without connections | {empty / 2**20:.0f} MiB | |")
    print(f"| a connection | {median(plain, 0) / 1024:.2f} KiB | {1e6 * median(plain, 1):.0f} µs |")
    print(f"| a connection with TLS | {median(secure, 0) / 1024:.2f} KiB | {1e6 * median(secure, 1):.0f} µs |")
    print(f"| a subscription to a channel of its own | {channel:.0f} bytes | |")
    print(f"| a presence member with its connection, {MEMBERS_OF_A_CHANNEL} on a channel | {member / 1024:.2f} KiB | |")
    print(f"| a channel in Redis | {redis['channel']:.0f} bytes | |")
    print(f"| a presence member in Redis | {redis['member']:.0f} bytes | |")
    print(f"| commands to Redis per second and node, idle | {redis['idle']:.1f} | |")
    print(f"| … with {CHANNELS:,} channels and {MEMBERS:,} members | {redis['busy']:.1f} | |")
    print(f"| commands to Redis for a publish | {redis['publish']:.2f} | {1e6 * redis['publish_cpu']:.0f} µs |")


if __name__ == "__main__":
    main()
