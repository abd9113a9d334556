"""Tests of the harness: which faults of a server must fail a test at its end."""

import time
import unittest

from server import Server

LISTENS = "echo listens on http://127.0.0.1:1\n"


def server(script, deadline_s=10):
    """A shell script in place of a server."""
    return Server(["/bin/sh", "-c", script, "campanile"], deadline_s)


def ends(by, before=""):
    """A script that runs until SIGTERM, and then executes `by`."""
    return f"trap '{by}' TERM; {before}\n{LISTENS} while :; do sleep 0.02; done"


class Ends(unittest.TestCase):
    def test_a_server_that_ends_when_it_is_told_to_is_fine(self):
        with server(ends("exit 0")):
            pass

    def test_a_server_that_has_to_be_killed_fails_the_test(self):
        with self.assertRaisesRegex(RuntimeError, "did not end within 0.2 s"):
            with server(ends(""), deadline_s=0.2):
                pass

    def test_a_server_that_fails_or_crashes_at_its_end_fails_the_test(self):
        for by, code in [("exit 1", "1"), ("kill -KILL $$", "-9"), ("kill -SEGV $$", "-11")]:
            with self.assertRaisesRegex(RuntimeError, f"the server ended with {code}:"):
                with server(ends(by)):
                    pass

    def test_a_server_that_ends_by_itself_fails_the_test(self):
        for by, code in [("exit 0", "0"), ("kill -KILL $$", "-9")]:
            with self.assertRaisesRegex(RuntimeError, f"the server ended by itself with {code}:"):
                with server(f"{LISTENS} {by}") as ended:
                    while ended.is_running:
                        time.sleep(0.01)

    def test_a_panic_from_which_a_server_recovered_fails_the_test(self):
        panic = "echo \"thread 'shard-0' panicked at src/a.rs:1:2:\" >&2"
        with self.assertRaisesRegex(RuntimeError, "the server panicked:"):
            with server(ends("exit 0", panic)):
                pass

    def test_a_server_that_never_listens_is_an_error(self):
        with self.assertRaisesRegex(RuntimeError, "ended before it listened"):
            server("exit 1")


if __name__ == "__main__":
    unittest.main()
