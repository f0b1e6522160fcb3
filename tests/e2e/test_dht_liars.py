"""Liars of the DHT as processes of their own; ``python -m tests.attacks.dht`` plays all trials with more of them, and for longer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.attacks.dht import Size, carry_out

pytestmark = pytest.mark.timeout(240)

TRIALS = ("withholds", "victim", "forges", "stale", "owned", "crowd", "records", "keys")
"""Those that do not wait for time-outs."""


@pytest.mark.long
async def test_honest_processes_find_what_they_look_for_among_liars(
    tmp_path: Path, variables: Mapping[str, str]
) -> None:
    size = Size(honest=3, liars=2, crowd=6, keys_max=64, records=80, keys=200)
    assert await carry_out(TRIALS, size, tmp_path, variables) == []
