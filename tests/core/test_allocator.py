"""What a process does not use any more it gives back, though large blocks and small ones came and went together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from fluvial.allocator import tuned_allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

give_back = tuned_allocator()
before = resident()
del_me = bytes(20_000_000)
del del_me  # without tuning, blocks up to this size are in the heap from now on
kept = []
for _ in range(60):
    large = bytearray(b"x") * 2_000_000
    kept.append((large, bytes(20_000)))  # of those that stay between the large ones
kept = [small for _, small in kept]
del large
give_back()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc that is tuned")
def test_large_blocks_go_back_to_the_system(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30, "and not 120 MB"
