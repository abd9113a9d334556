"""Holds a listening socket and runs a command with it as file descriptor 3, again whenever the command ends.

That is what systemd does with a .socket and a .service unit. SIGTERM ends the command and then this.
"""

import os
import signal
import socket
import sys


def start(listener, command):
    pid = os.fork()
    if pid == 0:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ["LISTEN_FDS"] = "1"
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.execv(command[0], command)
    print(f"runs as {pid}", flush=True)
    return pid


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    state = {"pid": 0, "ends": False}

    def end(*_):
        state["ends"] = True
        os.kill(state["pid"], signal.SIGTERM)

    state["pid"] = start(listener, sys.argv[1:])
    signal.signal(signal.SIGTERM, end)
    while True:
        _, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        print(f"ended with {code}", flush=True)
        if state["ends"]:
            sys.exit(code)
        state["pid"] = start(listener, sys.argv[1:])


main()
