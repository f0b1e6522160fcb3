"""A private PostgreSQL server for tests and benchmarks, from the operating system's package.

It listens on a unix socket in a temporary folder and nowhere else, runs as an unprivileged user (PostgreSQL refuses root), and is gone
with its data at the end of its block. Every test gets an empty database of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

USER: Final = "fluvial"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
MEMORY_BYTES_MIN: Final = 2**30
_END_OTHER_SESSIONS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_SYSTEM_USERS: Final = ("postgres", "nobody")


def find_binaries() -> Path | None:
    """The newest installed folder with ``initdb`` and ``postgres``; Debian keeps them out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*folders, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


class PostgresServer:
    """A running server; made by :func:`running_server`.

    Args:
        folder: its socket lies there.
        process: the server.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[Any]) -> None:
        self._folder = folder
        self._process = process
        self._free: list[str] = []
        self._made = 0

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, for the time of a block."""
        if self._free:
            name = self._free.pop()
        else:
            self._made += 1
            name = f"test{self._made}"
            with self.connect() as connection:
                connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql+psycopg://{USER}@/{name}?host={self._folder}"
        # Emptied and used again, which is ten times as fast as making another one.
        with self.connect(name) as connection:
            connection.execute(_END_OTHER_SESSIONS)
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        self._free.append(name)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the superuser, each statement a transaction of its own."""
        return psycopg.connect(host=str(self._folder), user=USER, dbname=database, autocommit=True)

    def wait_until_ready(self) -> None:
        """Return when connections are accepted."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                log = self._folder / "log"
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()}") from None
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server without saving anything ("immediate shutdown"): its data is thrown away."""
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)


@contextmanager
def running_server(binaries: Path, *, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a server with a new cluster, and stop it at the end of the block.

    Args:
        binaries: see :func:`find_binaries`.
        durable: whether commits reach the disk (for benchmarks); tests end faster without, and none of them cuts the power.
    """
    run_as = _unprivileged_user()
    # The path is short, since that of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="fluvial-pg-", dir=None if durable else _memory_folder()))
    try:
        if run_as is not None:
            shutil.chown(folder, run_as)
        group = None if run_as is None else pwd.getpwnam(run_as).pw_gid
        extra_groups: list[int] | None = None if run_as is None else []
        run = partial(subprocess.Popen, cwd=folder, user=run_as, group=group, extra_groups=extra_groups)
        log_path, data = folder / "log", folder / "data"
        with log_path.open("wb") as log:
            initdb = [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                USER,
                "--auth=trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ]
            if run(initdb, stdout=log, stderr=log).wait(START_TIMEOUT_S):
                raise RuntimeError(f"initdb failed:\n{log_path.read_text()}")
            settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "on" if durable else "off"}
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            process = run([binaries / "postgres", "-D", data, *options], stdout=log, stderr=log)
        server = PostgresServer(folder, process)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def server_for_session() -> Iterator[PostgresServer]:
    """The body of a session fixture: a server, or a skip where none is installed; under CI that is a failure."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_server(binaries) as server:
        yield server


def _memory_folder() -> Path | None:
    """A folder whose files stay in memory, if there is one with room enough; None: the usual place."""
    folder = Path("/dev/shm")
    if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_BYTES_MIN:
        return folder
    return None


def _unprivileged_user() -> str | None:
    """Whom to run the server as; None: ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _SYSTEM_USERS if name in known)
