"""The kernel settings, and the numbers of descriptors in docs/production.md."""

import re

from servers import Campanile
from tools import CAMPANILE_BIN, DEPLOY, REPOSITORY, SECRET, FilesTest, replace, read, run

PRODUCTION = REPOSITORY / "docs/production.md"
SYSCTL = ["/sbin/sysctl", "--dry-run", "--load"]


class Sysctl(FilesTest):
    def load(self, path):
        """Has `sysctl` read a file without changing anything; it looks each name up in the kernel."""
        done = run(*SYSCTL, path)
        # It continues after a line that it does not understand.
        done.returncode = done.returncode or int("invalid syntax" in done.stderr)
        return done

    def test_the_kernel_knows_the_settings(self):
        settings = dict(line.split(" = ") for line in self.assert_succeeds(self.load(DEPLOY / "sysctl.d/60-campanile.conf")).splitlines())

        self.assertEqual(set(settings), {"net.core.somaxconn", "net.ipv4.ip_local_port_range", "fs.nr_open"})
        # What Campanile asks for, and what the service has.
        backlog = re.search(r"BACKLOG: i32 = ([\d_]+);", (REPOSITORY / "src/server/listeners.rs").read_text(encoding="utf-8"))
        self.assertEqual(settings["net.core.somaxconn"], backlog[1].replace("_", ""))
        self.assertIn(f"\nLimitNOFILE={settings['fs.nr_open']}\n", read("systemd/campanile.service"))

    def test_a_wrong_file_is_noticed(self):
        for line, says in [("net.core.somaxcon = 1", "somaxcon"), ("net.core.somaxconn 4096", "invalid syntax")]:
            with self.subTest(line):
                self.assert_fails(self.load(self.write("wrong.conf", f"{line}\n")), says)

    def test_the_port_ranges_are_as_large_as_the_comment_says(self):
        text = read("sysctl.d/60-campanile.conf")
        first, last = re.search(r"ip_local_port_range = (\d+) (\d+)", text).groups()

        self.assertIn(f"{60999 - 32768 + 1:,} clients", text)
        self.assertIn(f"this for {int(last) - int(first) + 1:,}.", text)


class Descriptors(FilesTest):
    def test_so_many_connections_fit_into_a_limit(self):
        config = replace(read("config.toml"), ('"<openssl rand -hex 20>"', f'"{SECRET}"'))
        path = self.write("config.toml", replace(config, ("[server]", "[server]\nshards = 2")))
        rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \|", PRODUCTION.read_text(encoding="utf-8"), re.MULTILINE)
        self.assertLess(2, len(rows))
        possible = 0
        for limit, connections in ([int(cell.replace(",", "")) for cell in row] for row in rows):
            limited = ["prlimit", f"--nofile={limit}"]
            # What the server keeps for itself, with two shards, and for HTTP.
            self.assertEqual(limit - 40 - 2 * 6 - 192, connections)
            # Above the hard limit only root may go, and not in every container.
            if run(*limited, "true").returncode == 0:
                possible += 1
                with self.subTest(limit), Campanile(path, command=[*limited, CAMPANILE_BIN]) as server:
                    self.assertEqual(server.metric("campanile_max_connections"), connections)
        self.assertLess(0, possible)
