"""A real Campanile: started in a separate directory, on a free port, and ended by its process id."""

import json
import os
import queue
import re
import subprocess
import tempfile
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CAMPANILE_BIN = os.environ.get("CAMPANILE_BIN", str(REPOSITORY / "target/debug/campanile"))
DEADLINE_S = 10
LISTENS = re.compile(r"listens on http://127\.0\.0\.1:(\d+)")

# The SDK requires a numeric id.
APP = {"id": "3001", "key": "tests-key", "secret": "tests-secret", "subscription_count": True}


class Server:
    """Runs during the `with` block. It must still run at the end of the block, exit with 0, and never panic.

    `app` is its app, with the tables in `app_tables`, and `settings` further tables of its configuration.
    """

    def __init__(self, program=(CAMPANILE_BIN,), deadline_s=DEADLINE_S, app=APP, settings="", app_tables=""):
        self._deadline_s = deadline_s
        self.folder = tempfile.TemporaryDirectory(prefix="campanile-python-")
        # Strings, numbers and booleans are written in TOML as in JSON.
        table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in app.items())
        config = Path(self.folder.name) / "config.toml"
        config.write_text(f"[server]\nshutdown_grace_s = 2\n{settings}\n[[apps]]\n{table}\n{app_tables}\n", encoding="utf-8")
        self.log = []
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [*program, "start", "--config", str(config), "--host", "127.0.0.1", "--port", "0"],
            cwd=self.folder.name,
            # The developer's environment must not affect the configuration.
            env={"PATH": os.environ["PATH"], "HOME": self.folder.name, "RUST_BACKTRACE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = self._port()
        except BaseException:
            self._process.kill()
            self._clear()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ended = self._process.poll()
        self._process.terminate()
        try:
            self._process.wait(self._deadline_s)
            was_killed = False
        except subprocess.TimeoutExpired:
            self._process.kill()
            was_killed = True
        code = self._clear()
        log = "".join(self.log)
        if ended is not None:
            raise RuntimeError(f"the server ended by itself with {ended}:\n{log}")
        if was_killed:
            raise RuntimeError(f"the server did not end within {self._deadline_s} s:\n{log}")
        if code != 0:
            raise RuntimeError(f"the server ended with {code}:\n{log}")
        # Rust prints this for every panic, before it can be caught.
        if "panicked at" in log:
            raise RuntimeError(f"the server panicked:\n{log}")

    @property
    def is_running(self):
        return self._process.poll() is None

    def _clear(self):
        """Waits for the end of the process and of its output; returns the exit code."""
        code = self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self.folder.cleanup()
        return code

    def _read(self):
        for line in self._process.stdout:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def _port(self):
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            if found := LISTENS.search(line):
                return int(found.group(1))
        raise RuntimeError(f"the server ended before it listened:\n{''.join(self.log)}")
