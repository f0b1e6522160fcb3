"""How often addresses may be tried that others told; pure.

Anybody can say that a peer is anywhere. So what is tried is counted where it hurts: at the endpoint (host and port) that is knocked at, whoever
is said to be there and in however many particles; at its host and its network, since ports and hosts are many; and at the peer, since one
peer may claim many addresses. An endpoint that has shown the key of a peer is *proven* to be that peer's: the peer is then dialled there with
short pauses, whatever others claim, and what others claim of it counts as for an endpoint that does not answer.

========================= ======================================================= =========================
who is dialled            pause after a failure                                   counted besides
========================= ======================================================= =========================
the owner of an endpoint  0.5 s, doubled up to 30 s; six in a row end the proof   –
anybody else              5 s, four times as long each time up to five minutes    peer, host, network, all
========================= ======================================================= =========================
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

import msgspec
from fluvial.address_scope import destination
from fluvial.identity import PeerId

from fluvial_transport_tcp.prefix import prefix_of

OWNER_PAUSE_S: Final = 0.5
OWNER_PAUSE_S_MAX: Final = 30.0
OWNER_FAILURES_MAX: Final = 6
CLAIM_PAUSE_S: Final = 5.0
CLAIM_PAUSE_GROWTH: Final = 4
CLAIM_PAUSE_S_MAX: Final = 300.0
CLAIMS_FORGOTTEN_S: Final = 600.0
"""An endpoint that nobody tried for so long after its last pause begins anew."""
ENDPOINTS_MAX: Final = 32_768
"""Endpoints that are remembered, about 8 MB, and 7 MB more with all their errors; with the rate for all it takes longer than the longest pause to have one forgotten."""
COUNTED_MAX: Final = 16_384
"""Peers, hosts and networks that are counted at one time; the one that was counted longest ago is forgotten."""
ERROR_CHARACTERS_MAX: Final = 160
HOST_BITS: Final = {"ipv4_bits": 32, "ipv6_bits": 64}
NETWORK_BITS: Final = {"ipv4_bits": 24, "ipv6_bits": 48}


class Rate(NamedTuple):
    """A token bucket: so many at once, and one more in so many seconds."""

    burst: int
    each_s: float


OF_PEER: Final = Rate(8, 10.0)
OF_HOST: Final = Rate(8, 10.0)
OF_NETWORK: Final = Rate(24, 3.0)
OF_INSIDE_HOST: Final = Rate(64, 0.5)
"""Of a host that is not public: many peers of one machine are an honest sight there."""
OF_INSIDE_NETWORK: Final = Rate(256, 0.1)
OF_ALL: Final = Rate(256, 1 / 64)


class _Counted(NamedTuple):
    """What attempts are counted for."""

    of: str
    name: str


_ALL: Final = _Counted("of all peers", "")


class Paused(OSError):
    """An address is not tried now; the message says why and for how long."""


class _Endpoint(msgspec.Struct):
    """What is known of a host and port."""

    owner: PeerId | None = None
    proven_at: float = 0.0
    owner_failures: int = 0
    owner_until: float = 0.0
    failures: int = 0
    until: float = 0.0
    failed_for: PeerId | None = None
    error: str = ""


class _Buckets:
    """Token buckets by key; a key that was never counted has a full one."""

    def __init__(self) -> None:
        self._at: OrderedDict[_Counted, tuple[float, float]] = OrderedDict()  # tokens, when

    def left(self, key: _Counted, rate: Rate, now: float) -> float:
        tokens, at = self._at.get(key, (float(rate.burst), now))
        return min(float(rate.burst), tokens + (now - at) / rate.each_s)

    def take(self, key: _Counted, rate: Rate, now: float) -> None:
        self._at[key] = (self.left(key, rate, now) - 1, now)
        self._at.move_to_end(key)
        if len(self._at) > COUNTED_MAX:
            self._at.popitem(last=False)


class DialAttempts:
    """See the module's docstring. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._endpoints: OrderedDict[tuple[IPv4Address | IPv6Address, int], _Endpoint] = OrderedDict()
        self._buckets = _Buckets()

    def pause(self, peer: PeerId, host: str, port: int, now: float) -> str:
        """Why :meth:`begin` would raise because of what is known of the endpoint; empty if it would not."""
        endpoint = self._endpoints.get((destination(host), port))
        if endpoint is None:
            return ""
        until = endpoint.owner_until if endpoint.owner == peer else endpoint.until
        if now >= until:
            return ""
        # The same words as after the failure itself, without the time that is left: else it would be news again and again.
        error = endpoint.error if endpoint.failed_for == peer else ""
        return error or "it did not answer as this peer; it is tried again later"

    def name_pause(self, peer: PeerId, name: str, now: float) -> str:
        """Why :meth:`look_up` would raise; empty if it would not."""
        return self._wanting(_of_name(peer, name), now)

    def look_up(self, peer: PeerId, name: str, now: float) -> None:
        """A name that was told is about to be resolved, which counts for the domain that it is in.

        Raises:
            Paused: not now.
        """
        self._take(_of_name(peer, name), now)

    def begin(self, peer: PeerId, host: str, port: int, now: float, *, looked_up: bool = False) -> None:
        """A told endpoint is about to be tried.

        Args:
            peer: who is said to be there.
            host: numeric.
            port: of the host.
            now: the time.
            looked_up: whether :meth:`look_up` has counted the peer.

        Raises:
            Paused: not now.
        """
        if why := self.pause(peer, host, port, now):
            raise Paused(why)
        endpoint = self._endpoints.get((destination(host), port))
        if endpoint is not None and endpoint.owner == peer:
            return
        network = prefix_of(str(destination(host)), **NETWORK_BITS)
        counted: dict[_Counted, Rate] = {
            _Counted("of the host", prefix_of(str(destination(host)), **HOST_BITS).name): OF_HOST
            if network.public
            else OF_INSIDE_HOST,
            _Counted("in the network", network.name): OF_NETWORK if network.public else OF_INSIDE_NETWORK,
        }
        if not looked_up:
            counted |= {_Counted("of the peer", peer): OF_PEER, _ALL: OF_ALL}
        self._take(counted, now)
        # Nobody else knocks while this one waits for an answer.
        self._failed_claim(self._endpoint(host, port), now)

    def answered(self, peer: PeerId, host: str, port: int, now: float) -> None:
        """The endpoint has shown the key of this peer, whoever was expected there."""
        endpoint = self._endpoint(host, port)
        if endpoint.owner != peer:
            endpoint.owner = peer
        endpoint.proven_at = now
        endpoint.owner_failures, endpoint.owner_until = 0, 0.0

    def failed(self, peer: PeerId, host: str, port: int, now: float, error: str = "") -> None:
        """The endpoint did not answer as this peer; for those who do not own it, :meth:`begin` has counted that already."""
        endpoint = self._endpoint(host, port)
        if error or endpoint.failed_for != peer:
            endpoint.failed_for, endpoint.error = peer, error[:ERROR_CHARACTERS_MAX]
        if endpoint.owner != peer:
            return
        pause_s = min(OWNER_PAUSE_S * 2**endpoint.owner_failures, OWNER_PAUSE_S_MAX)
        endpoint.owner_failures += 1
        endpoint.owner_until = now + pause_s
        if endpoint.owner_failures >= OWNER_FAILURES_MAX:
            endpoint.owner = None
            endpoint.failures, endpoint.until = 0, endpoint.owner_until

    def proven(self, peer: PeerId, host: str, port: int, now: float, *, within_s: float) -> bool:
        """Whether an endpoint has shown the key of this peer in so many seconds."""
        endpoint = self._endpoints.get((destination(host), port))
        return endpoint is not None and endpoint.owner == peer and now - endpoint.proven_at <= within_s

    def _failed_claim(self, endpoint: _Endpoint, now: float) -> None:
        if now - endpoint.until > CLAIMS_FORGOTTEN_S:
            endpoint.failures = 0
        pause_s = min(CLAIM_PAUSE_S * CLAIM_PAUSE_GROWTH ** min(endpoint.failures, 8), CLAIM_PAUSE_S_MAX)
        endpoint.failures += 1
        endpoint.until = now + pause_s

    def _take(self, counted: dict[_Counted, Rate], now: float) -> None:
        if why := self._wanting(counted, now):
            raise Paused(why)
        for key, rate in counted.items():
            self._buckets.take(key, rate, now)

    def _wanting(self, counted: dict[_Counted, Rate], now: float) -> str:
        """Which rate has been used up, in words; empty if none has."""
        for key, rate in counted.items():
            if self._buckets.left(key, rate, now) < 1:
                return f"too many addresses {key.of} were tried; this one is when it is its turn"
        return ""

    def _endpoint(self, host: str, port: int) -> _Endpoint:
        key = (destination(host), port)
        if (endpoint := self._endpoints.get(key)) is None:
            endpoint = self._endpoints[key] = _Endpoint()
            if len(self._endpoints) > ENDPOINTS_MAX:
                self._endpoints.popitem(last=False)
        self._endpoints.move_to_end(key)
        return endpoint


def _of_name(peer: PeerId, name: str) -> dict[_Counted, Rate]:
    """For whom a look-up counts."""
    domain = ".".join(name.rstrip(".").lower().rsplit(".", 2)[-2:])
    return {_Counted("of the peer", peer): OF_PEER, _Counted("in the domain", domain): OF_NETWORK, _ALL: OF_ALL}
