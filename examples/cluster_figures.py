#!/usr/bin/env python3
"""Measures the cost of two nodes compared with one, with the load generator.

    cargo build --release --bin campanile --example load
    python3 examples/cluster_figures.py target/release

Starts one node alone, and two nodes on a Redis of their own, all on free ports of this machine, and loads the one and the
two in turn, five times. Prints a table of medians. Needs redis-server and Python 3.11.

    python3 examples/cluster_figures.py target/release channels

Subscribes 36 clients to 36,000 channels on the two nodes, sends 80 concurrent requests for the list of channels to one
node, and publishes through it meanwhile, one event after the other. Prints how many requests failed and how long publishes
took.

    python3 examples/cluster_figures.py target/release restart

Subscribes 40 clients to 20,000 channels on each of two nodes, publishes on all of them, kills Redis and starts it again
empty. Prints the time until both nodes are ready, and how many connections were closed.

    python3 examples/cluster_figures.py target/release publishes OLD/campanile target/release/campanile

Starts two nodes of each program on a Redis of their own, and publishes through the two of each in turn, five times, with 32
publishes under way. Prints medians: publishes per second, and for each publish the CPU time of both nodes and of Redis.
"""

import base64
import hashlib
import hmac
import json
import os
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

CHANNELS_PER_CLIENT = 1_000
IDLE_SECONDS = 30
CLIENTS = 36
LISTS_AT_ONCE = 80
CLIENTS_AT_A_RESTART = 40
CHANNELS_OF_AN_EVENT = 100
READY_WITHIN = 60

ROUNDS = 5
SECONDS = "4"


def start_node(folder, binary, redis):
    port = free_port()
    config = os.path.join(folder, f"{port}.toml")
    with open(config, "w") as file:
        # The load generator exceeds the default message limit of a client.
        file.write('[server]\nshards = 1\n[connection]\nmax_messages_per_second = 0\n[log]\nlevel = "warn"\n')
        file.write('[[apps]]\nid = "app-id"\nkey = "app-key"\nsecret = "app-secret"\n')
        if redis:
            file.write(f'[redis]\nurl = "redis://127.0.0.1:{redis}"\n')
    command = [binary, "--config", config, "--env-file", os.devnull, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 10
    while True:
        try:
            if urllib.request.urlopen(url + "/ready", timeout=1).status == 200:
                return process, url
        except (urllib.error.URLError, OSError):
            if until < time.monotonic():
                sys.exit("a node does not become ready")
            time.sleep(0.05)


def commands(redis):
    """The number of calls of each command so far, as reported by Redis."""
    done = subprocess.run(["redis-cli", "-p", str(redis), "info", "commandstats"], capture_output=True, text=True)
    lines = (line.split(":calls=") for line in done.stdout.splitlines() if ":calls=" in line)
    return {name.removeprefix("cmdstat_"): int(rest.split(",")[0]) for name, rest in lines}


def idle_commands(redis):
    """Commands per second of each of two idle nodes, over a round of comparisons."""
    sent = ("evalsha", "hscan", "sscan", "ping")
    before = commands(redis)
    time.sleep(IDLE_SECONDS)
    after = commands(redis)
    return sum(after.get(name, 0) - before.get(name, 0) for name in sent) / IDLE_SECONDS / 2


def load(folder, scenario, urls, *options):
    command = [os.path.join(folder, "examples", "load"), scenario, "--seconds", SECONDS, "--json", *options]
    for url in urls:
        command += ["--url", url]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    outcome = json.loads(done.stdout)[0]
    if outcome["faults"]:
        sys.exit(f"{scenario}: {outcome['faults']}")
    return outcome["figures"]


def cpu_us(process):
    """The CPU time of a process so far."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def publishes(folder, build, binaries, processes):
    """Compares programs: two nodes of each, on a Redis of their own."""
    sides = []
    for binary in binaries:
        port = free_port()
        redis = subprocess.Popen(redis_command(port), stdout=subprocess.DEVNULL)
        processes.append(redis)
        time.sleep(0.5)
        nodes = [start_node(folder, os.path.abspath(binary), port) for _ in range(2)]
        processes += [process for process, _ in nodes]
        sides.append((binary, port, redis, nodes, []))
    for _ in range(ROUNDS):
        for _, port, redis, nodes, figures in sides:
            of_nodes = [process for process, _ in nodes]
            before, used, of_redis = commands(port), sum(map(cpu_us, of_nodes)), cpu_us(redis)
            urls = [url for _, url in nodes]
            per_second = load(build, "unicast", urls, "--publishers", "32")["publishes_per_s"]
            after = commands(port)
            count = after["publish"] - before.get("publish", 0)
            calls = after["evalsha"] - before.get("evalsha", 0)
            used, of_redis = sum(map(cpu_us, of_nodes)) - used, cpu_us(redis) - of_redis
            figures.append((per_second, used / count, of_redis / count, count / calls))
    print("| program | publishes per second | nodes, µs per publish | Redis, µs per publish | publishes per script call |")
    print("|---|---|---|---|---|")
    for binary, _, _, _, figures in sides:
        medians = " | ".join(number(statistics.median(column)) for column in zip(*figures))
        print(f"| {binary} | {medians} |")


def number(value):
    return f"{value:,.0f}" if 100 <= value else f"{value:.2f}"


def call(url, method, path, body=b""):
    """Sends a signed request; returns the status, the body and the duration."""
    path = "/apps/app-id" + path
    query = f"auth_key=app-key&auth_timestamp={int(time.time())}&auth_version=1.0"
    if body:
        query += "&body_md5=" + hashlib.md5(body).hexdigest()
        query = "&".join(sorted(query.split("&")))
    signature = hmac.new(b"app-secret", f"{method}\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
    request = urllib.request.Request(f"{url}{path}?{query}&auth_signature={signature}", body or None, method=method)
    request.add_header("Content-Type", "application/json")
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), time.monotonic() - begun
    except urllib.error.HTTPError as error:
        return error.code, error.read(), time.monotonic() - begun


def occupy(url, client):
    """Connects a WebSocket client and subscribes it to its channels; returns when all are acknowledged."""
    host, port = url.removeprefix("http://").split(":")
    stream = socket.create_connection((host, int(port)))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    stream.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    for number in range(CHANNELS_PER_CLIENT):
        text = json.dumps({"event": "pusher:subscribe", "data": {"channel": f"channel-{client}-{number}"}}).encode()
        # A mask of zeros leaves the text unchanged.
        stream.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    done, rest = 0, b""
    while done < CHANNELS_PER_CLIENT:
        rest += stream.recv(65_536) or sys.exit("a connection was closed")
        done += rest.count(b"subscription_succeeded")
        rest = rest[-len(b"subscription_succeeded") + 1 :]
    return stream


def channels(urls):
    """Sends 80 concurrent requests for a list of 36,000 channels, and publishes meanwhile."""
    clients = [occupy(urls[client % 2], client) for client in range(CLIENTS)]
    answers, publishes = [], []
    asking = [
        threading.Thread(target=lambda: answers.append(call(urls[0], "GET", "/channels"))) for _ in range(LISTS_AT_ONCE)
    ]
    for thread in asking:
        thread.start()
    event = json.dumps({"name": "e", "channel": "c", "data": "1"}).encode()
    while any(thread.is_alive() for thread in asking):
        publishes.append(call(urls[0], "POST", "/events", event))
    wanted = len(clients) * CHANNELS_PER_CLIENT
    whole = sum(
        status == 200 and len(json.loads(body)["channels"]) == wanted for status, body, _ in answers
    )
    rejected = sum(status != 200 for status, _, _ in publishes)
    print(f"{whole} of {LISTS_AT_ONCE} requests listed all {wanted:,} channels, the slowest after {slowest(answers):.2f} s")
    print(f"{len(publishes)} publishes meanwhile, {rejected} failed, the slowest took {slowest(publishes):.3f} s")


def restart(urls, redis, start_redis):
    """Restarts Redis empty while each node has 20,000 channels with published events."""
    clients = [occupy(urls[client % 2], client) for client in range(CLIENTS_AT_A_RESTART)]
    for client in range(len(clients)):
        for first in range(0, CHANNELS_PER_CLIENT, CHANNELS_OF_AN_EVENT):
            names = [f"channel-{client}-{number}" for number in range(first, first + CHANNELS_OF_AN_EVENT)]
            event = json.dumps({"name": "e", "channels": names, "data": "1"}).encode()
            if (status := call(urls[client % 2], "POST", "/events", event)[0]) != 200:
                sys.exit(f"a publish failed with status {status}")
    time.sleep(2)  # Each node detects the other.
    redis.kill()
    redis.wait()
    again = start_redis()
    begun = time.monotonic()
    time.sleep(1)  # Both have detected the restart by then.
    try:
        while not all(is_ready(url) for url in urls):
            if begun + READY_WITHIN < time.monotonic():
                sys.exit("the nodes do not become ready again")
            time.sleep(0.05)
        took = time.monotonic() - begun
        time.sleep(2)  # Connections that lack events are closed by then.
        closed = sum(is_closed(client) for client in clients)
    finally:
        again.kill()
    topics = len(clients) * CHANNELS_PER_CLIENT // 2
    print(f"restart empty with {topics:,} topics a node: ready after {took:.1f} s, connections closed: {closed}")


def is_ready(url):
    try:
        return urllib.request.urlopen(url + "/ready", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def is_closed(stream):
    stream.setblocking(False)
    heard = b""
    try:
        while more := stream.recv(65_536):
            heard += more
        return True
    except BlockingIOError:
        return b"pusher:error" in heard


def slowest(calls):
    return max(seconds for _, _, seconds in calls)


def redis_command(port):
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def main():
    is_comparison = sys.argv[2:3] == ["publishes"] and 3 < len(sys.argv)
    if not is_comparison and sys.argv[2:] not in ([], ["channels"], ["restart"]) or len(sys.argv) < 2:
        sys.exit("usage: cluster_figures.py FOLDER-OF-THE-BUILD [channels | restart | publishes PROGRAM…]")
    build = os.path.abspath(sys.argv[1])
    binary = os.path.join(build, "campanile")
    redis = free_port()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            if is_comparison:
                return publishes(folder, build, sys.argv[3:], processes)
            server = redis_command(redis)
            processes.append(subprocess.Popen(server, stdout=subprocess.DEVNULL))
            if sys.argv[2:] == ["restart"]:
                nodes = [start_node(folder, binary, redis) for _ in range(2)]
                processes += [process for process, _ in nodes]
                urls = [url for _, url in nodes]
                restart(urls, processes[0], lambda: subprocess.Popen(server, stdout=subprocess.DEVNULL))
                return
            if sys.argv[2:]:
                nodes = [start_node(folder, binary, redis) for _ in range(2)]
                processes += [process for process, _ in nodes]
                channels([url for _, url in nodes])
                return
            alone, one = start_node(folder, binary, None)
            processes.append(alone)
            nodes = [start_node(folder, binary, redis) for _ in range(2)]
            processes += [process for process, _ in nodes]
            two = [url for _, url in nodes]
            idle = idle_commands(redis)
            clients = [occupy(url, client) for client, url in enumerate(two)]
            idle_with_channels = idle_commands(redis)
            for client in clients:
                client.close()
            runs = [
                ("publishes per second, one subscriber each, 4 under way", "unicast", "publishes_per_s", 1, []),
                (
                    "publishes per second, one subscriber each, 32 under way",
                    "unicast",
                    "publishes_per_s",
                    1,
                    ["--publishers", "32"],
                ),
                ("deliveries per second, 1,000 subscribers a node, saturated", "saturate", "deliveries_per_s", 1_000, []),
                ("p50, one event under way, ms", "unicast", "p50_ms", 100, ["--publishers", "1", "--channels", "100"]),
            ]
            print("| figure | one node | two nodes on one Redis | |\n|---|---|---|---|", flush=True)
            for what, scenario, figure, subscribers, options in runs:
                figures = {1: [], 2: []}
                for _ in range(ROUNDS):
                    for count, urls in ((1, [one]), (2, two)):
                        sized = ["--subscribers", str(subscribers * count)] if 1 < subscribers else []
                        figures[count].append(load(build, scenario, urls, *sized, *options)[figure])
                single, both = (statistics.median(figures[count]) for count in (1, 2))
                print(f"| {what} | {number(single)} | {number(both)} | {both / single:.2f} x |", flush=True)
            print(f"| commands per second and node while nothing happens | | {idle:.1f} | |")
            print(f"| the same with {CHANNELS_PER_CLIENT:,} channels a node | | {idle_with_channels:.1f} | |")
        finally:
            for process in processes:
                process.kill()


if __name__ == "__main__":
    main()
