"""On the build machine a skipped test is a failure: the rule of ``conftest.py``, tried on a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_machine_lacks_something():
    pytest.skip("no PostgreSQL here")

@pytest.mark.skip("not offered: relays")
def test_plugin_lacks_something():
    pass

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False
"""


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", "2 skipped, 1 xfailed"), ("true", "1 failed, 1 skipped, 1 xfailed, 1 error")]
)
def test_skips_fail_where_everything_must_be_there(tmp_path: Path, ci: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_some.py").write_text(TESTS)
    if ci:
        (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--continue-on-collection-errors",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            tmp_path,
        ],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome in done.stdout
    assert ("this skip is a failure" in done.stdout) == bool(ci)
