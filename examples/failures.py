#!/usr/bin/env python3
"""Measures how long a cluster takes to detect and repair failures.

    cargo build --release
    python3 examples/failures.py target/release/campanile

Starts a Redis and three nodes on free ports of this machine, breaks one thing after the other, and prints a table.
Needs redis-server and Python 3.11, and nothing else. Each time is the median of three.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from local_server import free_port

ROUNDS = 3
APP = ["--app-id", "1", "--key", "k", "--secret", "s"]
CONFIG = """
[[apps]]
id = "1"
key = "k"
secret = "s"
[redis]
url = "redis://127.0.0.1:%d"
[log]
level = "warn"
"""


def wait_for(what, condition, seconds=30):
    """Waits until `condition` holds, and returns how long that took."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if condition():
            return time.monotonic() - began
        time.sleep(0.005)
    sys.exit(f"waited {seconds} s in vain until {what}")


class Redis:
    def __init__(self, folder):
        self.port = free_port()
        self.folder = folder
        self.run()

    def run(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Link:
    """A TCP relay to Redis that can be cut."""

    def __init__(self, redis):
        self.redis = redis
        self.is_cut = False
        self.sockets = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            one, _ = self.server.accept()
            if self.is_cut:
                one.close()
                continue
            other = socket.create_connection(("127.0.0.1", self.redis.port))
            self.sockets += [one, other]
            for pair in ((one, other), (other, one)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass  # The link was cut.

    def cut(self):
        self.is_cut = True
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The connection had ended.
        self.sockets = []

    def heal(self):
        self.is_cut = False


class Node:
    def __init__(self, binary, config):
        self.port = free_port()
        self.binary = binary
        command = [binary, "--config", config, "--env-file", os.devnull, "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self):
        try:
            return urllib.request.urlopen(self.url() + "/ready", timeout=1).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def publish(self, data):
        command = [self.binary, "publish", "--url", self.url(), *APP, "room", "e", data]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode == 0, time.monotonic() - began


class Listener:
    """`campanile listen`, whose lines are read as they arrive."""

    def __init__(self, node, *channels):
        command = [node.binary, "listen", "--url", node.url(), *APP, "--json", *channels]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

    def heard(self, word):
        self.text += (self.process.stdout.read() or b"").decode()
        return word in self.text

    def end(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        self.redis = Redis(folder)
        self.config = self.configure("config.toml", self.redis.port)
        self.nodes = [Node(binary, self.config) for _ in range(3)]
        self.all_ready()

    def configure(self, name, redis):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(CONFIG % redis)
        return path

    def all_ready(self):
        return wait_for("all nodes are ready", lambda: all(node.is_ready() for node in self.nodes))

    def node_joins(self):
        began = time.monotonic()
        self.nodes.append(Node(self.binary, self.config))
        wait_for("the new node is ready", self.nodes[-1].is_ready)
        return time.monotonic() - began

    def node_leaves(self):
        node = self.nodes.pop()
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        node.process.wait()
        return time.monotonic() - began

    def node_dies(self):
        listener = Listener(self.nodes[-1], "room")
        wait_for("the listener is there", lambda: listener.heard("subscription_succeeded"))
        node = self.nodes.pop()
        node.process.kill()
        node.process.wait()
        gone = wait_for("its channel is vacated", lambda: not self.is_occupied("room"))
        listener.end()
        self.node_joins()
        return gone

    def is_occupied(self, channel):
        found = subprocess.run(
            ["redis-cli", "-p", str(self.redis.port), "hexists", "campanile:i{1}", channel], capture_output=True, text=True
        )
        return found.stdout.strip() == "1"

    def redis_pauses(self):
        listener = Listener(self.nodes[0], "room")
        wait_for("the listener is there", lambda: listener.heard("subscription_succeeded"))
        self.redis.process.send_signal(signal.SIGSTOP)
        publishing = subprocess.Popen(
            [self.binary, "publish", "--url", self.nodes[1].url(), *APP, "room", "e", "paused"], stdout=subprocess.DEVNULL
        )
        time.sleep(1)  # The duration of the pause, which the table shows.
        self.redis.process.send_signal(signal.SIGCONT)
        heard = wait_for("the event arrives", lambda: listener.heard("paused"))
        if publishing.wait() != 0:
            sys.exit("a publish was rejected in a pause of one second")
        listener.end()
        return heard

    def redis_is_away(self):
        self.redis.kill()
        accepted, took = self.nodes[0].publish("rejected")
        if accepted:
            sys.exit("a publish was accepted without Redis")
        self.redis.run()
        self.all_ready()
        return took

    def redis_restarts_empty(self):
        self.redis.kill()
        wait_for("the nodes have noticed", lambda: not any(node.is_ready() for node in self.nodes))
        self.redis.run()
        return self.all_ready()

    def redis_restarts_with_data(self):
        subprocess.run(["redis-cli", "-p", str(self.redis.port), "save"], check=True, stdout=subprocess.DEVNULL)
        took = self.redis_restarts_empty()
        os.remove(os.path.join(self.folder, "dump.rdb"))
        return took

    def link_is_cut(self):
        link = Link(self.redis)
        node = Node(self.binary, self.configure("distant.toml", link.port))
        wait_for("the distant node is ready", node.is_ready)
        link.cut()
        wait_for("it has noticed", lambda: not node.is_ready())
        link.heal()
        took = wait_for("the distant node is ready", node.is_ready)
        node.process.terminate()
        node.process.wait()
        return took

    def end(self):
        for node in self.nodes:
            node.process.kill()
        self.redis.kill()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: failures.py PATH-OF-CAMPANILE")
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(os.path.abspath(sys.argv[1]), folder)
        rows = [
            ("a node joins: until its /ready is 200, from the start of its process", cluster.node_joins),
            ("a node leaves (SIGTERM, no clients): until its process has ended", cluster.node_leaves),
            ("a node dies (kill -9): until one of the others has cleaned up after it", cluster.node_dies),
            ("Redis pauses for 1 s: from its end until an event published meanwhile arrives", cluster.redis_pauses),
            ("Redis is away: until a publish is rejected with 503", cluster.redis_is_away),
            ("Redis restarts empty: until all nodes take part again", cluster.redis_restarts_empty),
            ("Redis restarts with its data: until all nodes take part again", cluster.redis_restarts_with_data),
            ("one node's link is cut: from its end until the node takes part again", cluster.link_is_cut),
        ]
        print("| what | median of", ROUNDS, "|\n|---|---|", flush=True)
        for what, measure in rows:
            times = [measure() for _ in range(ROUNDS)]
            print(f"| {what} | {statistics.median(times):.2f} s |", flush=True)
        cluster.end()


if __name__ == "__main__":
    main()
