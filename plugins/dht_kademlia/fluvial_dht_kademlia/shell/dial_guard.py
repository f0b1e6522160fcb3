"""Which addresses may be dialled because somebody else has named them. Pure.

A liar can name a victim's address for any number of invented peers. So an endpoint (host and port) at which dialling has failed is left alone for a
while, whoever is said to be there; so is one at which another peer was met lately. Addresses that a peer announced itself, or that stand in the
settings, are tried by whoever means them; this is about what was heard.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fluvial.addresses import Address
from fluvial.identity import PeerId

ENDPOINTS_MAX: Final = 8_192
FAILURES_FREE: Final = 2
"""Failures at an endpoint before it is left alone."""
PAUSE_MS_FIRST: Final = 5_000
PAUSE_MS_MAX: Final = 600_000
MET_MS: Final = 60_000
"""For so long the peer that was met at an endpoint is the only one that is looked for there."""
TRYING_MAX: Final = 2
"""Attempts at one endpoint at the same time."""

Endpoint: TypeAlias = tuple[str, int]


@dataclass(slots=True)
class EndpointHistory:
    """What is known of an endpoint."""

    failures: int = 0
    pause_until: int = 0
    met: PeerId | None = None
    met_at: int = 0
    trying: int = 0


@dataclass(slots=True)
class DialGuard:
    """See the module's docstring."""

    _endpoints: OrderedDict[Endpoint, EndpointHistory] = field(default_factory=OrderedDict)

    def allowed(self, peer: PeerId, addresses: tuple[Address, ...], now: int) -> tuple[Address, ...]:
        """The addresses at which this peer may be looked for now."""
        return tuple(address for address in addresses if address.relay is None and self._allows(peer, address, now))

    def begin(self, addresses: tuple[Address, ...]) -> None:
        """These are going to be dialled; report with :meth:`met` or :meth:`failed`."""
        for address in addresses:
            self._history(address).trying += 1

    def met(self, peer: PeerId, addresses: tuple[Address, ...], now: int) -> None:
        """The peer was there, at one of these."""
        for address in addresses:
            history = self._history(address)
            history.trying -= 1
            history.failures, history.pause_until = 0, 0
            if len(addresses) == 1:
                history.met, history.met_at = peer, now

    def failed(self, peer: PeerId, addresses: tuple[Address, ...], now: int) -> None:
        """The peer was at none of these."""
        for address in addresses:
            history = self._history(address)
            history.trying -= 1
            history.failures += 1
            if history.met == peer:
                history.met = None
            beyond = history.failures - FAILURES_FREE
            if beyond >= 0:
                history.pause_until = now + min(PAUSE_MS_FIRST << min(beyond, 30), PAUSE_MS_MAX)

    def _allows(self, peer: PeerId, address: Address, now: int) -> bool:
        history = self._endpoints.get((address.host, address.port))
        if history is None:
            return True
        if now < history.pause_until or history.trying >= TRYING_MAX:
            return False
        return history.met in (None, peer) or now - history.met_at >= MET_MS

    def _history(self, address: Address) -> EndpointHistory:
        endpoint = (address.host, address.port)
        history = self._endpoints.setdefault(endpoint, EndpointHistory())
        self._endpoints.move_to_end(endpoint)
        while len(self._endpoints) > ENDPOINTS_MAX:
            oldest = next(iter(self._endpoints))
            if self._endpoints[oldest].trying:
                self._endpoints.move_to_end(oldest)
                break
            del self._endpoints[oldest]
        return history
