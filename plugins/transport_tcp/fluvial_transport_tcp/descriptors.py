"""File descriptors: whether the process may open as many as the transport's limits allow connections."""

from __future__ import annotations

from typing import Final

import structlog
from fluvial.errors import ConfigError

try:
    import resource
except ImportError:  # a system without such limits
    resource = None  # type: ignore[assignment]

OTHERS: Final = 128
"""Descriptors that are not the transport's: database, logs, threads, files of plugins."""
CONNECTIONS_MIN: Final = 8
"""With fewer connections a peer is of no use."""


def connections_allowed(connections: int, *, besides: int, log: structlog.stdlib.BoundLogger) -> int:
    """How many connections can stand at once; raises the process's soft limit as far as needed and allowed.

    Args:
        connections: how many the settings allow.
        besides: other descriptors of the transport: handshakes, listeners, dials.
        log: told when there will be fewer.

    Raises:
        ConfigError: there would be next to none.
    """
    if resource is None:
        return connections
    wanted = connections + besides + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _less(soft, wanted):
        limit = wanted if not _less(hard, wanted) else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
        except (ValueError, OSError) as error:
            log.debug("the limit of file descriptors cannot be raised", error=str(error))
    if not _less(soft, wanted):
        return connections
    allowed = soft - besides - OTHERS
    hint = f"raise the limit to {wanted} (ulimit -n, LimitNOFILE=), or lower connections_max of the transport"
    if allowed < min(CONNECTIONS_MIN, connections):
        raise ConfigError(f"transport: the process may open {soft} files, which leaves none for connections", hint=hint)
    log.warning("file_descriptors_short", limit=soft, wanted=wanted, connections_max=allowed, hint=hint)
    return allowed


def _less(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted
