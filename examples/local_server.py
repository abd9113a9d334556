"""What the scripts that measure need to start a server on this machine."""

import os
import socket
import subprocess
import sys
import time

START_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, config, port, *, under=(), **options):
    """Starts a server with this configuration file, `under` another program if one is named, and waits until it accepts connections."""
    command = [*under, binary, "start", "--config", config, "--env-file", os.devnull, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            if until < time.monotonic() or process.poll() is not None:
                sys.exit("the server does not start")
            time.sleep(0.05)
