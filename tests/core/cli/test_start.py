"""What a start of a peer loads, and how its process ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fluvial.cli import main as root

UNUSED = (
    "alembic",
    "fluvial.demo",
    "fluvial.simulation",
    "fluvial.storage.schema",
    "fluvial.testing",
    "jinja2",
    "mako",
    "psycopg",
    "pytest",
    "sqlalchemy",
    "tomlkit",
    "uvloop",
    "wasmtime",
)
"""Modules that a peer as `fluvial init` seats it does not need in order to start, not even for the first time."""
IMPORTED = re.compile(r"^import time:[ \d|]+ (\S+)$", re.MULTILINE)


def test_the_first_start_loads_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(root.main, ["init"])
    assert made.exit_code == 0, made.output
    lines = []
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "fluvial", "run"], stderr=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stderr is not None
        for line in peer.stderr:
            lines.append(line)
            if "peer_started" in line:
                os.kill(peer.pid, signal.SIGINT)
    assert peer.returncode == 0, "".join(lines)
    imported = set(IMPORTED.findall("".join(lines)))
    assert "fluvial.node" in imported
    assert (
        sorted(name for name in imported if name in UNUSED or name.startswith(tuple(f"{one}." for one in UNUSED))) == []
    )


def test_the_end_of_a_command_looks_at_no_objects() -> None:
    script = (
        "import atexit, gc\natexit.register(lambda: print(len(gc.get_objects())))\n"  # the last of all to be called
        "from fluvial.cli.main import main\nmain(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout.split()[-1]) < 100
