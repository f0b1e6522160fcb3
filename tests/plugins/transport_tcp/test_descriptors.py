"""The limits of the settings are compared with what the process may open; real limits, so each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, structlog
from fluvial.errors import ConfigError
from fluvial_transport_tcp.descriptors import connections_allowed
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
try:
    print(connections_allowed(connections, besides=72, log=log), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except ConfigError as error:
    print(error.message, error.hint)
"""


def allowed(soft: int, hard: int, connections: int) -> tuple[str, str]:
    """What comes out, and what is logged."""
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(connections)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "outcome"),
    [
        (1500, 4000, 1000, "1000 1500"),  # enough
        (256, 4000, 1000, "1000 1200"),  # raised as far as needed
    ],
)
def test_the_soft_limit_is_raised_where_that_helps(soft: int, hard: int, connections: int, outcome: str) -> None:
    assert allowed(soft, hard, connections) == (outcome, "")


def test_where_it_does_not_help_there_are_fewer_connections_and_a_warning() -> None:
    outcome, log = allowed(256, 500, 1000)
    assert outcome == "300 500"
    assert "file_descriptors_short" in log
    assert "raise the limit to 1200" in log


def test_a_peer_that_could_have_no_connections_does_not_start() -> None:
    outcome, _ = allowed(100, 200, 1000)
    assert "the process may open 200 files" in outcome
    assert "ulimit -n" in outcome
