"""Real servers on loopback: each in a process of its own, on free ports, and ended by its process id."""

import json
import queue
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from tools import CAMPANILE_BIN, KEY, SECRET, run

DEADLINE_S = 20


_PORTS = set()


def free_port():
    """A free port that no earlier call returned: the system may give a port out again at once."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port not in _PORTS:
            _PORTS.add(port)
            return port


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Waits until `condition()` is true, and returns its value."""
    ends = time.monotonic() + deadline_s
    while not (value := condition()):
        if ends < time.monotonic():
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.02)
    return value


def get(port, path, headers=None):
    """Status and body of an answer; status 0 without one."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Process:
    """Runs during the `with` block. Its output is `log`, line by line."""

    def __init__(self, *command, env=None, ready=None, cwd="/"):
        self.log = []
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if ready:
            try:
                wait_until(lambda: self._alive() and ready(), command)
            except BaseException:
                self._process.kill()
                self._clear()
                print(self.text)
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self.stop()

    @property
    def text(self):
        return "".join(self.log)

    @property
    def pid(self):
        return self._process.pid

    def wait(self):
        """Waits for the end of the process; returns its exit code."""
        try:
            return self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"{self._process.args} did not end:\n{self.text}") from None
        finally:
            self._clear()

    def stop(self, number=signal.SIGTERM):
        """Ends the process; returns its exit code."""
        self._process.send_signal(number)
        return self.wait()

    def says(self, text):
        """Waits until the log has this text."""
        wait_until(lambda: text in self.text, f"{text!r} in the log of {self._process.args[0]}:\n{self.text}")

    def next_line(self):
        try:
            return self._lines.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f"{self._process.args} printed no further line:\n{self.text}") from None

    def _alive(self):
        if self._process.poll() is not None:
            self._reader.join()
            raise AssertionError(f"{self._process.args} ended with {self._process.returncode}:\n{self.text}")
        return True

    def _clear(self):
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            self.log.append(line)
            self._lines.put(line)


class Campanile(Process):
    """A server with this configuration; `env` overrides it."""

    def __init__(self, config, env=None, command=(CAMPANILE_BIN,)):
        self.port, self.metrics_port = free_port(), free_port()
        env = {
            "CAMPANILE_SERVER__HOST": "127.0.0.1",
            "CAMPANILE_SERVER__PORT": str(self.port),
            "CAMPANILE_METRICS__LISTEN": f"127.0.0.1:{self.metrics_port}",
            "CAMPANILE_SERVER__SHUTDOWN_GRACE_S": "5",
        } | (env or {})
        super().__init__(*command, "start", "--config", config, env=env, ready=self.is_ready)

    def is_ready(self):
        return get(self.port, "/ready")[0] == 200

    @property
    def metrics(self):
        return get(self.metrics_port, "/metrics")[1]

    def metric(self, name):
        """The sum of the series of a metric."""
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.metrics, re.MULTILINE)
        return sum(map(float, values)) if values else None


# The app of the tests, as flags.
APP = ("--app-id", "1", "--key", KEY, "--secret", SECRET)


class Listener(Process):
    """A client that is subscribed to the channel `news`, and reconnects as client libraries do."""

    def __init__(self, url, *flags):
        super().__init__(CAMPANILE_BIN, "listen", "--json", "news", "--url", url, *APP, *flags)

    def __enter__(self):
        try:
            self.subscribed()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)

    def subscribed(self):
        """Waits for the next subscription."""
        while self._event() != "pusher_internal:subscription_succeeded":
            pass

    def receives(self, name):
        """Waits for the next event of the application, which has to be this one."""
        while (event := self._event()).startswith("pusher"):
            pass
        if event != name:
            raise AssertionError(f"expected {name}, received {event}")

    def _event(self):
        while not (line := self.next_line()).startswith("{"):
            pass
        return json.loads(line)["event"]


def publish(url, event, *flags):
    return run(CAMPANILE_BIN, "publish", "news", event, "{}", "--url", url, *APP, *flags)
