"""The program of Supervisor: a real supervisord runs a real server with it."""

import inspect
import re
import socket
import sys

from servers import Listener, Process, free_port, get, publish, wait_until
from supervisor.options import ServerOptions
from tools import CAMPANILE_BIN, PROGRAMS, SECRET, FilesTest, read, replace, run

# What the program is part of. Nothing but loopback and a file of the test.
DAEMON = """
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {folder}/pid
childlogdir = {folder}

[unix_http_server]
file = {folder}/socket

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{folder}/socket

[include]
files = {folder}/campanile.conf
"""


def unknown_keys(text):
    """Keys of a program that Supervisor does not read: it ignores them without a word."""
    source = inspect.getsource(ServerOptions._processes_from_section)
    known = set(re.findall(r"get\(section, *'(\w+)'", source))
    known |= {f"{stream}_logfile{what}" for stream in ["stdout", "stderr"] for what in ["", "_backups", "_maxbytes"]}
    return set(re.findall(r"^(\w+) *=", text, re.MULTILINE)) - known


class Supervisor(FilesTest):
    def setUp(self):
        super().setUp()
        self.port = free_port()
        config = replace(read("config.toml"), ('"<openssl rand -hex 20>"', f'"{SECRET}"'), ("127.0.0.1:9601", "127.0.0.1:0"))
        self.config = self.write("config.toml", replace(config, ("[server]\n", f'[server]\nhost = "127.0.0.1"\nport = {self.port}\n')))
        self.daemon = self.write("supervisord.conf", DAEMON.format(folder=self.folder))

    def program(self, *changes):
        self.write("campanile.conf", replace(
            read("supervisor/campanile.conf"),
            ("/usr/local/bin/campanile", CAMPANILE_BIN),
            ("/etc/campanile/config.toml", self.config),
            ("/var/log/supervisor", self.folder),
            # The user exists after the installation only.
            ("user = campanile\n", ""),
            *changes,
        ))

    def supervisord(self):
        """A running supervisord."""
        command = [sys.executable, PROGRAMS / "supervisord", "--configuration", self.daemon]
        return self.enterContext(Process(*command, ready=self.answers))

    def answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / "socket")) == 0

    def control(self, *command):
        return run(PROGRAMS / "supervisorctl", "--configuration", self.daemon, *command)

    def log(self):
        return (self.folder / "campanile.log").read_text(encoding="utf-8")

    def test_the_server_is_started_restarted_reloaded_and_stopped(self):
        self.assertEqual(unknown_keys(read("supervisor/campanile.conf")), set())
        self.program()
        supervisord = self.supervisord()
        wait_until(lambda: "RUNNING" in self.control("status").stdout, "RUNNING")
        url = f"http://127.0.0.1:{self.port}"
        with Listener(url) as listener:
            first = self.control("pid", "campanile").stdout
            self.assert_succeeds(self.control("restart", "campanile"))
            self.assertNotEqual(self.control("pid", "campanile").stdout, first)
            listener.subscribed()
            self.assert_succeeds(publish(url, "hello"))
            listener.receives("hello")
            self.assertRegex(self.log(), r'"message":"drained","connections":1,.*"dropped":0')

            self.assert_succeeds(self.control("signal", "HUP", "campanile"))
            wait_until(lambda: '"message":"reloaded' in self.log(), "a reload")

            self.assertIn("stopped", self.assert_succeeds(self.control("stop", "campanile")))
        self.assertEqual(get(self.port, "/up")[0], 0)
        self.assertEqual(re.findall(r"stopped: campanile \((.*)\)", supervisord.text), ["exit status 0"] * 2)

    def test_a_server_that_was_killed_is_started_again(self):
        self.program()
        self.supervisord()
        # Until then Supervisor starts any program again.
        wait_until(lambda: "RUNNING" in self.control("status").stdout, "RUNNING")
        first = self.control("pid", "campanile").stdout
        self.assert_succeeds(self.control("signal", "KILL", "campanile"))

        wait_until(lambda: self.control("status").stdout.count("RUNNING") and self.control("pid", "campanile").stdout != first, "another process")
        self.assertEqual(get(self.port, "/up")[0], 200)

    def test_the_time_to_stop_is_longer_than_the_drain(self):
        grace = int(re.search(r"^shutdown_grace_s = (\d+)$", read("config.toml"), re.MULTILINE)[1])

        self.assertLess(grace, int(re.search(r"^stopwaitsecs = (\d+)$", read("supervisor/campanile.conf"), re.MULTILINE)[1]))

    def test_a_wrong_program_is_noticed(self):
        self.assertEqual(unknown_keys(replace(read("supervisor/campanile.conf"), ("startsecs", "startsec"))), {"startsec"})
        self.program(("stopsignal = TERM", "stopsignal = TERMINATE"))
        command = [PROGRAMS / "supervisord", "--configuration", self.daemon]
        self.assert_fails(run(*command), "TERMINATE")
        self.program((str(CAMPANILE_BIN), "/nonexistent/campanile"))
        self.supervisord()
        wait_until(lambda: "BACKOFF" in self.control("status").stdout, "BACKOFF")
