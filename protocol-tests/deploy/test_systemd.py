"""The units of systemd: `systemd-analyze` reads them, and the server does only what they permit."""

import functools
import os
import re
import signal
import socket

from servers import Campanile, Listener, Process, free_port, get, publish
from tools import CAMPANILE_BIN, DEPLOY, SECRET, FilesTest, read, replace, run

UNITS = ["campanile.service", "campanile.socket", "campanile-metrics.socket"]
# Tenths of the exposure that `systemd-analyze security` computes: 14 of at most 100.
EXPOSURE_MAX = 14
PLACEHOLDER = '"<openssl rand -hex 20>"'


def configuration():
    return replace(read("config.toml"), (PLACEHOLDER, f'"{SECRET}"'))


def setting(unit, name):
    """The value of a setting of a unit; that of the last line, as most settings have it."""
    return re.findall(rf"^{name}=(.*)$", read(f"systemd/{unit}"), re.MULTILINE)[-1]


class Units(FilesTest):
    def unit(self, name, *changes):
        """A copy of a unit, with the program of the tests."""
        text = read(f"systemd/{name}")
        if name.endswith(".service"):
            text = replace(text, ("/usr/local/bin/campanile", CAMPANILE_BIN))
        return self.write(name, replace(text, *changes))

    def verify(self, *changes):
        """What `systemd-analyze verify` has to say about the units, with changes to the service."""
        paths = [self.unit(name, *(changes if name.endswith(".service") else ())) for name in UNITS]
        done = run("systemd-analyze", "verify", "--man=no", *paths)
        # It reads other units of the machine as well.
        return [line for line in done.stderr.splitlines() if "campanile" in line]

    def security(self, *changes):
        path = self.unit("campanile.service", *changes)
        return run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", path)

    def test_systemd_accepts_the_units(self):
        self.assertEqual(self.verify(), [])

    def test_a_wrong_unit_is_noticed(self):
        for change, says in [
            (("LimitNOFILE=", "LimitNOFILES="), "LimitNOFILES"),
            (("Type=notify", "Type=notified"), "Failed to parse service type"),
            (("SystemCallFilter=@system-service", "SystemCallFilter=@services"), "@services"),
            ((f"ExecStart={CAMPANILE_BIN}", "ExecStart=/nonexistent/campanile"), "is not executable"),
        ]:
            with self.subTest(change):
                self.assertRegex("\n".join(self.verify(change)), says)

    def test_the_service_has_few_rights(self):
        self.assert_succeeds(self.security())

    def test_a_service_with_more_rights_is_noticed(self):
        for change in [("\nCapabilityBoundingSet=\n", "\n"), ("NoNewPrivileges=yes", ""), ("SystemCallFilter=", "# ")]:
            with self.subTest(change):
                self.assert_fails(self.security(change), "Overall exposure level")

    def test_systemd_knows_the_user(self):
        check = ["systemd-sysusers", "--dry-run", f"--root={self.folder}"]
        (self.folder / "etc").mkdir()

        done = run(*check, DEPLOY / "systemd/sysusers.conf")

        self.assertIn("Creating user 'campanile'", self.assert_succeeds(done) + done.stderr)
        self.assert_fails(run(*check, self.write("wrong.conf", "user campanile - -\n")), "wrong.conf")
        for name in ["User", "Group"]:
            self.assertEqual(setting("campanile.service", name), "campanile")

    def test_the_service_waits_for_the_end_of_the_drain(self):
        grace = int(re.search(r"^shutdown_grace_s = (\d+)$", configuration(), re.MULTILINE)[1])

        self.assertLess(grace, int(setting("campanile.service", "TimeoutStopSec").removesuffix("s")))

    def test_the_example_configuration_is_valid_when_it_is_filled_in(self):
        check = [CAMPANILE_BIN, "check", "--config"]
        self.assert_fails(run(*check, DEPLOY / "config.toml"), "published placeholder")
        self.assert_succeeds(run(*check, self.write("config.toml", configuration())))


class Activation(FilesTest):
    def test_the_server_takes_both_sockets_by_their_names(self):
        port, metrics_port = free_port(), free_port()
        # A socket without a name has that of its unit.
        names = f"campanile.socket:{setting('campanile-metrics.socket', 'FileDescriptorName')}"
        start = ["--listen", f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{metrics_port}", f"--fdname={names}"]
        config = self.write("config.toml", configuration())

        command = ["systemd-socket-activate", *start, CAMPANILE_BIN, "start", "--config", config]
        with Process(*command, ready=lambda: get(port, "/ready")[0] == 200) as server:
            self.assertEqual(get(port, "/metrics")[0], 404)
            self.assertIn("campanile_connections", get(metrics_port, "/metrics")[1])
            self.assertEqual(server.stop(), 0)


@functools.cache
def system_calls(group):
    """The system calls of a group such as `@system-service`."""
    lines = run("systemd-analyze", "syscall-filter", group).stdout.splitlines()[1:]
    names = {line.strip() for line in lines if not line.strip().startswith("#")}
    return frozenset().union(*(system_calls(name) if name.startswith("@") else {name} for name in names if name))


def permitted():
    """The system calls that the service may make."""
    permitted = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", read("systemd/campanile.service"), re.MULTILINE):
        for group in line.removeprefix("~").split():
            permitted = permitted - system_calls(group) if line.startswith("~") else permitted | system_calls(group)
    return permitted


class SystemCalls(FilesTest):
    """A server that starts, serves, reloads and stops, and all that it asks of the kernel."""

    def setUp(self):
        super().setUp()
        trace = self.folder / "trace"
        config = self.write("config.toml", configuration())
        strace = ["strace", "--follow-forks", f"--output={trace}", CAMPANILE_BIN]
        notifications = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notifications.bind(str(self.folder / "notify"))
        with Campanile(config, {"NOTIFY_SOCKET": str(self.folder / "notify")}, strace) as server:
            url = f"http://127.0.0.1:{server.port}"
            with Listener(url) as listener:
                self.assert_succeeds(publish(url, "hello"))
                listener.receives("hello")
                self.assertIn("process_start_time_seconds", server.metrics)
            campanile = int(re.match(r"\d+", trace.read_text(encoding="utf-8"))[0])
            os.kill(campanile, signal.SIGHUP)
            server.says("reloaded")
            os.kill(campanile, signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
        notifications.setblocking(False)
        # Type=notify waits for the first one.
        self.assertEqual(notifications.recv(100), b"READY=1\n")
        self.assertEqual(setting("campanile.service", "Type"), "notify")
        self.calls = [line.split(None, 1)[1] for line in trace.read_text(encoding="utf-8").splitlines()]

    def test_the_server_does_what_the_service_permits(self):
        names = {found[1] for call in self.calls if (found := re.match(r"(\w+)\(", call))}
        self.assertLess(20, len(names))
        self.assertEqual(names - permitted(), set())
        # What the trace has, and what the unit forbids: neither is empty.
        self.assertTrue(names & system_calls("@network-io"))
        self.assertTrue({"mount", "ptrace", "setuid", "chown"}.isdisjoint(permitted()))

        families = {found[1] for call in self.calls if (found := re.match(r"socket\((\w+)", call))}
        self.assertLessEqual(families, set(setting("campanile.service", "RestrictAddressFamilies").split()))
        # MemoryDenyWriteExecute and ProtectSystem=strict.
        self.assertEqual([call for call in self.calls if "PROT_WRITE|PROT_EXEC" in call], [])
        written = [call for call in self.calls if re.match(r"open(at)?\(", call) and re.search("O_WRONLY|O_RDWR|O_CREAT", call)]
        self.assertEqual([call for call in written if '"/dev/' not in call], [])
