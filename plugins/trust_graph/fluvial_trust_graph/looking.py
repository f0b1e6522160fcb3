"""For the commands: what the peer of the settings knows, read from its database."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from fluvial.commands import Invocation, open_tables
from fluvial.errors import ConfigError
from fluvial.identity import KeyPair
from fluvial.prepared import SqlTransaction

from fluvial_trust_graph.live import LiveTrust
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.statements import TIME_MAX, check_scope
from fluvial_trust_graph.storage.store import effective_roots, read_roots, read_statements


def known(invocation: Invocation) -> LiveTrust:
    """What the peer of the settings knows now.

    Raises:
        ConfigError: another authorization is in the seat. StorageError: the database cannot be read.
    """
    settings = invocation.configuration().settings
    choice = settings.seats["authorization"]
    if not isinstance(choice.options, TrustGraphOptions):
        raise ConfigError(
            f"the authorization {choice.kind!r} is in the seat, which knows nothing of trust",
            hint='[authorization] kind = "trust_graph"',
        )
    options = choice.options
    with open_tables(invocation) as connection:
        transaction = SqlTransaction(connection)
        statements, stored = read_statements(transaction), read_roots(transaction)
    me = KeyPair.load(settings.key_file).peer_id
    found = LiveTrust(
        effective_roots(me, options.own_exponent, options.roots, stored),
        options.keys(options.listed_perimeters()),
        int(time.time()),
    )
    found.fill(statements)
    return found


def scope_of(text: str) -> str:
    """A scope; raises ConfigError if it is none."""
    try:
        if text:
            check_scope(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return text


def day(seconds: int) -> str:
    """A day as people write it."""
    if seconds == TIME_MAX:
        return "for ever"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
