"""A context whose ports are closed: for parts that use none, and as the base of contexts with some open ports."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from fluvial.clock import Clock, SystemClock
from fluvial.identity import KeyPair
from fluvial.ports import Context

PORTS: Final = ("peers", "database", "trust", "ledger", "directory", "blobs", "extensions")


class ClosedPort:
    """Fails the test as soon as something of it is used."""

    def __init__(self, part: str, port: str) -> None:
        self._message = f"{part} must not use the port {port!r} here"

    def __getattr__(self, name: str) -> Any:
        """Any attribute of a port."""
        raise AssertionError(f"{self._message}: it asked for {name!r}")


def closed_context(
    name: str,
    *,
    keys: KeyPair | None = None,
    network: str = "conformance",
    base_dir: Path = Path(),
    clock: Clock | None = None,
    seed: int = 0,
    metrics: CollectorRegistry | None = None,
    log: structlog.stdlib.BoundLogger | None = None,
    **ports: Any,
) -> Context:
    """A context for one part.

    Args:
        name: of the part.
        keys: of the peer; fresh ones by default.
        network: of the peer.
        base_dir: where relative paths start.
        clock: the machine's by default.
        seed: of its randomness.
        metrics: a new registry by default.
        log: the one of structlog by default.
        ports: those that are open; all others are closed.
    """
    return Context(
        name=name,
        keys=keys or KeyPair.generate(),
        network=network,
        clock=clock or SystemClock(),
        rng=random.Random(seed),  # noqa: S311 - repeatable, and no secret
        metrics=CollectorRegistry() if metrics is None else metrics,
        log=structlog.get_logger() if log is None else log,
        base_dir=base_dir,
        **{port: ports.get(port, ClosedPort(name, port)) for port in PORTS},
    )
