"""A real etcd on loopback, for one test run."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import free_ports


@dataclass
class EtcdServer:
    """One member of a cluster of one.

    Attributes:
        url: for clients.
    """

    url: str
    _command: list[str]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, with the data of an earlier run."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                    if b"true" in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.1)
        self.stop()
        raise TimeoutError("etcd did not start")

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def etcd_server(folder: Path) -> Iterator[EtcdServer]:
    """A running etcd with its data in a folder; skips the test where etcd is not installed."""
    binary = shutil.which("etcd")
    if binary is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    first = free_ports(2)
    clients, peers = (f"http://127.0.0.1:{port}" for port in (first, first + 1))
    command = [binary, "--name", "one", "--data-dir", str(folder / "etcd"), "--initial-cluster", f"one={peers}"]
    command += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
    command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    server = EtcdServer(clients, command)
    server.start()
    try:
        yield server
    finally:
        server.stop()
