"""Peers as processes of their own: ``python -m fluvial run`` in a folder, ended politely or with ``kill -9``."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final

import tomlkit
from click.testing import CliRunner, Result
from fluvial.cli.main import main
from fluvial.identity import KeyPair, PeerId

NETWORK: Final = "test"
START_S: Final = 60.0
STOP_S: Final = 20.0
COMMAND_S: Final = 60.0


def environment(caches: Path) -> dict[str, str]:
    """The variables of a process: those of this shell without settings of fluvial.

    Args:
        caches: where compiled modules are kept if this shell forbids it at their place: compiling them takes longer than starting.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLUVIAL_")}
    if own.pop("PYTHONDONTWRITEBYTECODE", ""):
        own["PYTHONPYCACHEPREFIX"] = str(caches)
    return own


def free_ports(count: int) -> int:
    """The first of so many ports in a row on which nobody listens now."""
    for _ in range(100):
        first = random.SystemRandom().randrange(10_000, 32_000)  # below those that systems give to whoever dials
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def free_port() -> int:
    """A port on which nobody listens now."""
    return free_ports(1)


def wait_until(true: Callable[[], object], *, within_s: float, what: str) -> None:
    """Return when something has come about; fail when it has not in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)


class PeerProcess:
    """A peer in a folder; the process comes and goes, the peer stays the same.

    Args:
        folder: for its settings, key, store and log; made here.
        variables: see :func:`environment`.
        plugins: text of one-file plugins by name.
        python: the interpreter of its environment.
        keys: its key pair; a new one by default.
        sections: tables of its ``fluvial.toml`` besides those about its network, its address and its log.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        *,
        plugins: Mapping[str, str] | None = None,
        python: str | Path = sys.executable,
        keys: KeyPair | None = None,
        **sections: Mapping[str, Any],
    ) -> None:
        self.folder: Final = folder
        self.port: Final = free_port()
        folder.mkdir()
        (folder / "plugins.d").mkdir()
        for name, text in (plugins or {}).items():
            (folder / "plugins.d" / f"{name}.py").write_text(text)
        self.keys: Final = keys or KeyPair.generate()
        self.keys.save(folder / "secrets" / "peer.key")
        settings = {
            "network": NETWORK,
            "plugins": {"path": "plugins.d"},
            "transport": {"listen": [f"/ip4/127.0.0.1/tcp/{self.port}"], "reconnect_max_s": 1.0},
            "telemetry": {"log_format": "json", "log_level": "info"},
            **sections,
        }
        self.config: Final = folder / "fluvial.toml"
        self.config.write_text(tomlkit.dumps(settings))
        self._variables = dict(variables)
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"

    @property
    def peer_id(self) -> PeerId:
        return self.keys.peer_id

    @property
    def address(self) -> str:
        """Where it can be dialled."""
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{self.peer_id}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *python_options: str) -> None:
        """Start the process and wait until the peer works."""
        before = len(self.events("peer_started"))
        with self._log.open("ab") as log:
            command = [self._python, *python_options, "-m", "fluvial", "run", "--config", self.config]
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log, env=self._variables)
        wait_until(
            lambda: len(self.events("peer_started")) > before or process.poll() is not None,
            within_s=START_S,
            what="the peer starts",
        )
        assert process.poll() is None, self._log.read_text()[-3000:]

    def kill(self) -> None:
        """``kill -9``, and wait until the process is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)
        self._process = None

    def send(self, how: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(how)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end; its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            return self._process.wait(STOP_S)
        finally:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """End the process if it runs."""
        if self._process is not None:
            self.kill()

    def events(self, name: str) -> Sequence[dict[str, Any]]:
        """The events of a name in the log, of all processes so far."""
        return [event for event in self._logged() if event.get("event") == name]

    def _logged(self) -> Iterator[dict[str, Any]]:
        if not self._log.exists():
            return
        for line in self._log.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)


def fluvial(
    *arguments: str | Path,
    cwd: Path,
    variables: Mapping[str, str],
    stdin: str = "",
    timeout_s: float = COMMAND_S,
    python: str | Path = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run ``fluvial`` in a process of its own; what it printed and its exit code."""
    return subprocess.run(
        [python, "-m", "fluvial", *arguments],
        cwd=cwd,
        env=dict(variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def fluvial_here(*arguments: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``fluvial`` in this process, which has loaded it already: for a tenth of what :func:`fluvial` takes.

    It has a thread and an event loop of its own, for which the caller waits: it may be called from a test that runs in an event loop too.
    """
    ended: list[Result] = []

    def run() -> None:
        ended.append(CliRunner().invoke(main, list(map(str, arguments)), input=stdin, prog_name="fluvial"))

    with contextlib.chdir(cwd):
        thread = Thread(target=run)
        thread.start()
        thread.join()
    (done,) = ended
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
