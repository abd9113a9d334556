"""The packages of `packaging`, made once from the program of the tests."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from tools import CAMPANILE_BIN, COMMAND_DEADLINE_S, REPOSITORY, run

MANIFEST = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))
VERSION = MANIFEST["workspace"]["package"]["version"]
# Of everything in the packages.
TIME = 1_700_000_000


@functools.cache
def folder():
    """Where the packages are made."""
    made = tempfile.mkdtemp(prefix="campanile-packages-")
    atexit.register(shutil.rmtree, made)
    return Path(made)


@functools.cache
def program():
    """The program of the tests without symbols, which a release has few of: packing takes a third of the time."""
    stripped = Path(tempfile.mkdtemp(prefix="campanile-program-"), "campanile")
    atexit.register(shutil.rmtree, stripped.parent)
    subprocess.run(["strip", "-o", stripped, CAMPANILE_BIN], check=True)
    return stripped


@functools.cache
def host():
    """The target of this machine's Rust."""
    lines = run("rustc", "-vV", env=os.environ).stdout.splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def package(script, *arguments, into, env=None):
    """Runs a script of `packaging`; returns the package."""
    variables = {"CAMPANILE_PROGRAM": program(), "CAMPANILE_PACKAGES": into, "SOURCE_DATE_EPOCH": TIME} | (env or {})
    env = os.environ | {name: str(value) for name, value in variables.items()}
    # With a pipe that waits for an answer, cargo would wait as well.
    command = [REPOSITORY / "packaging" / script, *arguments]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * COMMAND_DEADLINE_S)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return Path(done.stdout.splitlines()[-1])
