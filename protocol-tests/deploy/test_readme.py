"""The table of `deploy/README.md`."""

import re
import subprocess
import unittest

from tools import DEPLOY, REPOSITORY, read


class Readme(unittest.TestCase):
    def test_each_file_is_in_the_table(self):
        tracked = ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "deploy"]
        listed = subprocess.run(tracked, check=True, capture_output=True, text=True).stdout.split()
        files = {name.removeprefix("deploy/") for name in listed} - {"README.md"}
        rows = set(re.findall(r"^\| \[`(.*?)`\]", read("README.md"), re.MULTILINE))
        missing = {name for name in files if not name.endswith(".gitignore") and not any(name == row or row.endswith("/") and name.startswith(row) for row in rows)}

        self.assertLess(20, len(files))
        self.assertEqual(missing, set())
        self.assertEqual({row for row in rows if not (DEPLOY / row).exists()}, set())
