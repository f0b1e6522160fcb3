"""Checks of the machine's resources: the key file, the ports, the database, file descriptors."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from fluvial.addresses import Address
from fluvial.config import Settings
from fluvial.errors import ConfigError, StorageError
from fluvial.findings import Finding
from fluvial.identity import KeyPair, key_is_exposed
from fluvial.storage.connecting import parse_url
from fluvial.storage.reading import reading
from fluvial.storage.tables import VERSION_TABLE

KEY_MODE: Final = "key-mode"
"""The repair of a key file that others may read."""
FREE_BYTES_MIN: Final = 256 * 2**20
"""Less than this on the database's disk is worth a warning."""
DESCRIPTORS_SPARE: Final = 64
"""File descriptors of a peer that are no connections: database, log, listening sockets, libraries."""


def check_key(settings: Settings) -> Iterator[Finding]:
    """Whether the key can be used, and whether only its owner may read it."""
    path = settings.key_file
    try:
        keys = KeyPair.load(path)
    except ConfigError as error:
        fix = KEY_MODE if _is_exposed(path) else ""
        yield Finding(level="fail", subject="key", text=error.message, hint=error.hint, code=error.code, fix=fix)
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    yield Finding(level="ok", subject="key", text=f"{path} ({mode:04o}): {keys.peer_id}")


def repair_key_mode(settings: Settings) -> str:
    """Take the rights of others away from the key file; says what was done. Raises OSError if that is not possible."""
    settings.key_file.chmod(0o600)
    return f"{settings.key_file}: mode set to 0600; if somebody may have read it, make a new peer"


def check_ports(settings: Settings, *, running: bool | None) -> Iterator[Finding]:
    """Whether the addresses to listen on are free, or taken by this peer itself.

    Args:
        settings: of the peer.
        running: whether it answers at its address now; None if it could not be asked.
    """
    choice = settings.seats["transport"]
    subject = f"transport {choice.kind}"
    listen = getattr(choice.options, "listen", None)
    if listen is None:
        yield Finding(level="ok", subject=subject, text="not checked: it does not say where it listens")
        return
    if not listen:
        yield Finding(level="ok", subject=subject, text="listens nowhere: this peer only dials out")
    for one in map(str, listen):
        yield from _check_port(subject, Address.parse(one), running=running)


def _check_port(subject: str, address: Address, *, running: bool | None) -> Iterator[Finding]:
    if not address.port:
        yield Finding(level="ok", subject=subject, text=f"{address}: whatever port is free")
        return
    try:
        _bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and running is not False:
            itself = f"{address}: taken by this peer itself, which runs"
            unknown = f"{address}: taken; whether by this peer itself is not known, as it could not be asked"
            yield Finding(level="ok" if running else "warn", subject=subject, text=itself if running else unknown)
            return
        texts = {
            errno.EADDRINUSE: (
                f"port {address.port} is taken by another program",
                "stop that program or choose another port in `listen`",
            ),
            errno.EACCES: ("this user may not listen there", "ports below 1024 are root's: choose a higher one"),
            errno.EADDRNOTAVAIL: ("this machine has no such address", "listen on one of its own, or on 0.0.0.0"),
        }
        what, hint = texts.get(error.errno or 0, (str(error), "choose another address in `listen`"))
        code = ConfigError.code
        yield Finding(level="fail", subject=subject, text=f"{address}: {what}", hint=hint, code=code)
        return
    yield Finding(level="ok", subject=subject, text=f"{address}: free")


def _bind(address: Address) -> None:
    """Take an address for a moment, as the peer would; raises OSError if that is not possible."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(where)


def check_store(settings: Settings, *, running: bool | None) -> Iterator[Finding]:
    """Whether the database can be used, its schema and its size; ``running`` as of :func:`check_ports`."""
    url = parse_url(settings.storage_url)
    if url.get_backend_name() != "sqlite":
        with reading(settings.storage_url, base_dir=settings.base_dir) as connection:
            yield from _check_server(connection)
        return
    if url.database in (None, "", ":memory:"):
        yield Finding(level="warn", subject="store", text="in memory: what the peer promised is lost when it ends")
        return
    path = settings.base_dir / str(url.database)
    yield from _check_disk(path)
    if not path.exists() and running:
        gone = f"the peer runs, and its database {path} was deleted or moved: it takes nothing in any more"
        hint = "stop the peer; put the file back if you have it, or a copy of it; then start the peer again"
        yield Finding(level="fail", subject="store", text=gone, hint=hint, code=StorageError.code)
        return
    if not path.exists():
        yield Finding(level="ok", subject="store", text=f"{path} is not there yet; `fluvial run` makes it")
        return
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        hint = "the user that runs the peer must be allowed to write to the file and to its folder"
        what = f"{path} or its folder may not be written"
        yield Finding(level="fail", subject="store", text=what, hint=hint, code=StorageError.code)
    with reading(settings.storage_url, base_dir=settings.base_dir) as connection:
        revision = _revision(connection)
    parts = [path, path.with_name(f"{path.name}-wal")]
    size = sum(one.stat().st_size for one in parts if one.exists())
    yield Finding(level="ok", subject="store", text=f"{path}: schema {revision}, {_size(size)}")


def _check_disk(path: Path) -> Iterator[Finding]:
    folder = next((one for one in path.parents if one.is_dir()), path.parent)
    if (free := shutil.disk_usage(folder).free) < FREE_BYTES_MIN:
        hint = "make room: a peer that cannot write refuses all particles"
        yield Finding(level="warn", subject="store", text=f"{folder}: only {_size(free)} are free", hint=hint)


def _check_server(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        text(
            "SELECT current_database(), pg_database_size(current_database()), pg_is_in_recovery(), has_table_privilege('particles', 'INSERT')"
        )
    ).one()
    name, size, replica, may_write = row
    if replica or not may_write:
        why = "the server is a replica, which can only be read" if replica else "this user may not write its tables"
        hint = "name a primary server and a user that owns the database"
        yield Finding(level="fail", subject="store", text=f"{name}: {why}", hint=hint, code=StorageError.code)
    yield Finding(
        level="ok", subject="store", text=f"PostgreSQL database {name}: schema {_revision(connection)}, {_size(size)}"
    )


def _revision(connection: Connection) -> str:
    return str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())  # noqa: S608 - a constant


def check_descriptors(settings: Settings) -> Iterator[Finding]:
    """Whether this user may have as many connections open as the transport allows itself."""
    options = settings.seats["transport"].options
    limits = [getattr(options, name, 0) for name in ("connections_max", "handshakes_max")]
    if not all(isinstance(limit, int) and limit > 0 for limit in limits):
        yield Finding(level="ok", subject="descriptors", text="not checked: the transport has no limits of connections")
        return
    try:
        import resource
    except ImportError:  # Windows has no such limit
        yield Finding(level="ok", subject="descriptors", text="not checked: this system has no limit for them")
        return
    needed = sum(limits) + DESCRIPTORS_SPARE
    _, allowed = resource.getrlimit(
        resource.RLIMIT_NOFILE
    )  # the hard limit, up to which a transport may raise the soft one
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        most = "any number" if allowed == resource.RLIM_INFINITY else f"{allowed:,}"
        yield Finding(level="ok", subject="descriptors", text=f"{most} allowed here, {needed:,} needed at most")
        return
    yield Finding(
        level="warn",
        subject="descriptors",
        text=f"{allowed:,} files may be open at a time, but {limits[0]:,} connections and {limits[1]:,} handshakes need {needed:,}",
        hint=f"`ulimit -n {needed}` (LimitNOFILE= in a unit of systemd), or lower connections_max in [transport]",
    )


def _is_exposed(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and key_is_exposed(status)


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
