"""Servers for these tests, by the harness of the tests for Python."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from server import APP, REPOSITORY, Server  # noqa: E402

__all__ = ["APP", "METRICS_TOKEN", "OPENAPI", "REPOSITORY", "Server"]

OPENAPI = REPOSITORY / "docs/openapi.yaml"
METRICS_TOKEN = "metrics-token-of-the-tests"
