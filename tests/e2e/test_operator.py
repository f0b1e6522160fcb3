"""What an operator meets: real processes whose disk is full, whose log has nowhere to go, who are stopped in the midst of their work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.processes import PeerProcess, fluvial, wait_until

FULL = Path("/dev/full")


@pytest.mark.long
@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("closed", [False, True])
def test_a_peer_whose_log_cannot_be_written_goes_on(tmp_path: Path, variables: Mapping[str, str], closed: bool) -> None:
    peer = PeerProcess(tmp_path / "peer", variables)
    redirected = "2>&-" if closed else "2>/dev/full"
    command = f'exec "{sys.executable}" -m fluvial run --config "{peer.config}" {redirected}'
    with subprocess.Popen(["sh", "-c", command], env=dict(variables)) as process:
        try:
            ask = ("call", "--relay", peer.address, "--network", "test", 'op.concat_strings("a", "b")')
            wait_until(
                lambda: fluvial(*ask, cwd=peer.folder, variables=variables).returncode == 0,
                within_s=60,
                what="the peer answers",
            )
            doctor = fluvial("doctor", cwd=peer.folder, variables=variables).stdout
            assert "lines were lost" in doctor
            if closed:
                assert os.readlink(f"/proc/{process.pid}/fd/2") == os.devnull
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
