"""Where this peer itself lives, which is where it may dial the addresses that others tell."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from fluvial.address_scope import AddressScope, widest
from fluvial.addresses import Address

DialScope: TypeAlias = Literal["auto", "public", "private", "local", "any"]

SCOPES: Final = {
    "public": AddressScope.PUBLIC,
    "private": AddressScope.PRIVATE,
    "local": AddressScope.LOCAL,
    "any": AddressScope.SPECIAL,
}
_EVERYWHERE: Final = {"0.0.0.0": ("ip4", "192.0.2.1"), "::": ("ip6", "2001:db8::1")}  # noqa: S104 - to see it, not to listen
_DISCARD_PORT: Final = 9


def own_scope(
    setting: DialScope,
    *,
    announced: Sequence[Address],
    listening: Sequence[Address],
    kept: Iterable[Address],
    reached: Iterable[AddressScope],
) -> AddressScope:
    """The scope of this peer: as it is set, else that of the addresses at which others reach it.

    Args:
        setting: the option.
        announced: what it announces; goes first.
        listening: what it listens on; all interfaces stand for the hosts of this machine.
        kept: where the peers are that it stays connected to; tells where a peer is that listens nowhere.
        reached: the scopes of configured hosts that it has reached; the same for one that stays connected to nobody.
    """
    if setting != "auto":
        return SCOPES[setting]
    if announced or listening:
        return widest(announced or list(_hosts(listening)), default=AddressScope.LOCAL)
    return widest(
        kept, default=min((one for one in reached if one is not AddressScope.SPECIAL), default=AddressScope.PUBLIC)
    )


def _hosts(listening: Iterable[Address]) -> Iterator[Address]:
    for address in listening:
        if address.host not in _EVERYWHERE:
            yield address
            continue
        kind, far = _EVERYWHERE[address.host]
        if (host := _source_host(kind, far)) is not None:
            yield replace(address, host_kind=kind, host=host)


def _source_host(kind: str, far: str) -> str | None:
    """The host of this machine from which others would be reached; None without such a network. Nothing is sent."""
    family = socket.AF_INET if kind == "ip4" else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, _DISCARD_PORT))
        return str(probe.getsockname()[0])
    return None
