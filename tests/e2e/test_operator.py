"""What an operator meets: real processes whose disk is full, whose log has nowhere to go, who are stopped in the midst of their work."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
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
        while process.poll() is None:  # whoever stops it is impatient, which changes nothing
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        assert process.returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux alone")
def test_a_peer_on_a_full_disk_says_so_refuses_and_goes_on_when_there_is_room(
    tmp_path: Path, variables: Mapping[str, str]
) -> None:
    """No file of the process may grow any more, which is how a quota ends; what had been answered before is there after a kill."""
    peer = PeerProcess(tmp_path / "peer", variables)

    def ask(text: str) -> subprocess.CompletedProcess[str]:
        return fluvial(
            *("call", "--relay", peer.address, "--network", "test", "--ttl", "2", f'op.identity("{text}")'),
            cwd=peer.folder,
            variables=variables,
        )

    try:
        peer.start()
        before = [f"before {number}" for number in range(3)]
        assert [ask(text).stdout.strip() for text in before] == [f'"{text}"' for text in before]
        _, most = resource.prlimit(peer.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(peer.pid, resource.RLIMIT_FSIZE, (4096, most))
        wait_until(lambda: ask("x" * 100_000).returncode == 4, within_s=60, what="it refuses")
        refused = ask("refused")
        assert refused.returncode == 4
        assert "storage" in refused.stderr
        doctor = fluvial("doctor", cwd=peer.folder, variables=variables)
        assert doctor.returncode == 1
        assert "nothing can be written since" in doctor.stdout
        resource.prlimit(peer.pid, resource.RLIMIT_FSIZE, (most, most))
        wait_until(lambda: ask("again").returncode == 0, within_s=60, what="it takes particles again")
        wait_until(lambda: peer.events("storage_works"), within_s=30, what="it says that it works")
        (works,) = peer.events("storage_works")
        assert works["seconds"] > 0
        assert "disk I/O error" in works["error"]
        assert "lines_lost" in (peer.folder / "log").read_text(), "the log could not grow either"
        assert fluvial("doctor", cwd=peer.folder, variables=variables).returncode == 0
        peer.kill()
        peer.start()
        stories = fluvial("particle", "list", "--json", cwd=peer.folder, variables=variables)
        assert len(json.loads(stories.stdout)) >= len(before) + 1
        assert peer.stop() == 0
    finally:
        peer.close()
