"""A peer and a client import nothing that they never use; what is left out is there for whoever wants it."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEFT_OUT = "import sys; from fluvial.cli.lean import import_structlog; import_structlog(); "


def told(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_structlog_comes_without_rich() -> None:
    pytest.importorskip("rich")
    assert told(LEFT_OUT + "print('structlog' in sys.modules, 'rich' in sys.modules)") == "True False"


def test_who_wants_rich_gets_it() -> None:
    pytest.importorskip("rich")
    assert told(LEFT_OUT + "import rich.console; print(rich.console.Console().width > 0)") == "True"


def test_what_is_imported_already_stays() -> None:
    pytest.importorskip("rich")
    assert told("import rich; " + LEFT_OUT + "import rich as again; print(rich is again)") == "True"
