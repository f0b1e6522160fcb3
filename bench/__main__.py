"""Runs all programs of this folder one after another, each for a bounded time: ``python -m bench``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
SECONDS_MAX: Final = 180.0
"""How long one program may take."""


def run(program: Path) -> bool:
    """Whether a program came to its end well."""
    print(f"== {program.stem}", flush=True)
    began = time.monotonic()
    try:
        code = subprocess.run(
            [sys.executable, str(program)], cwd=HERE.parent, timeout=SECONDS_MAX, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"{program.stem} was ended after {SECONDS_MAX:.0f} s", file=sys.stderr)
        return False
    print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
    if code:
        print(f"{program.stem} failed with exit code {code}", file=sys.stderr)
    return code == 0


def main() -> None:
    programs = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    failed = [program.stem for program in programs if not run(program)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
