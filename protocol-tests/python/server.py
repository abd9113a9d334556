"""A real Campanile: started in a folder of its own, on a free port, and ended by its process id."""

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

# The SDK insists on a number for the id.
APP = {"id": "3001", "key": "tests-key", "secret": "tests-secret", "subscription_count": True}


class Server:
    """Runs while the `with` block does."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="campanile-python-")
        # Strings, numbers and booleans are written in TOML as in JSON.
        app = "\n".join(f"{key} = {json.dumps(value)}" for key, value in APP.items())
        config = Path(self.folder.name) / "config.toml"
        config.write_text(f"[server]\nshutdown_grace_s = 2\n[[apps]]\n{app}\n", encoding="utf-8")
        self.log = []
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [CAMPANILE_BIN, "start", "--config", str(config), "--host", "127.0.0.1", "--port", "0"],
            cwd=self.folder.name,
            # Nothing of the developer's own environment may reach the configuration.
            env={"PATH": os.environ["PATH"], "HOME": self.folder.name, "RUST_BACKTRACE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.port = self._port()
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self.close()

    def close(self):
        try:
            code = self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process.stdout.close()
        self.folder.cleanup()
        if code not in (0, -9):
            raise RuntimeError(f"the server ended with {code}:\n{''.join(self.log)}")

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
