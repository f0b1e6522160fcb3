"""What stands between an address and a connection: whether it may be dialled, whether it is its turn, and where its name leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import inf
from typing import Final

import anyio
from fluvial.address_scope import AddressScope, host_refusal, refusal, scope_of_host
from fluvial.addresses import Address
from fluvial.identity import PeerId

from fluvial_transport_tcp.attempts import DialAttempts, Paused
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.resolving import Resolver
from fluvial_transport_tcp.wire import Wire

ATTEMPT_S: Final = 3.0
"""How long an address is waited for, if it is not the only one."""
HOSTS_MAX: Final = 4
"""Addresses of a ``dns`` name that are tried, one after the other."""
PROOF_S: Final = 3_600.0
"""How long an address that has answered needs no further proof."""


class NotDialled(OSError):
    """An address that others told must not be dialled."""


class DialGate:
    """Connects to addresses: to those that the owner configured as they are, to others within limits.

    Args:
        scope: tells this peer's own scope; see :mod:`fluvial.address_scope`.
        metrics: where dials are counted.
    """

    def __init__(self, scope: Callable[[], AddressScope], metrics: Metrics) -> None:
        self._scope = scope
        self._metrics = metrics
        self._attempts = DialAttempts()
        self._resolver = Resolver()
        self._configured: set[AddressScope] = set()

    @property
    def configured(self) -> frozenset[AddressScope]:
        """The scopes of the hosts that were reached at configured addresses."""
        return frozenset(self._configured)

    def refusal(self, address: Address) -> str:
        """Why an address is never dialled; empty if it may be."""
        return refusal(address, self._scope())

    def not_now(self, peer: PeerId, address: Address) -> str:
        """Why :meth:`connect` would fail at once for an address that others told; empty if it may be tried."""
        if address.configured:
            return ""
        if why := self.refusal(address):
            self._metrics.dials["refused"] += 1
            return f"not dialled: {why}"
        now = anyio.current_time()
        if address.host_kind.startswith("ip"):
            why = self._attempts.pause(peer, address.host, address.port, now)
        else:
            why = self._attempts.name_pause(peer, address.host, now)
        if why:
            self._metrics.dials["paused"] += 1
        return why

    async def connect(self, peer: PeerId, address: Address, *, within_s: float = inf) -> Wire:
        """A wire to one of the hosts of an address.

        Args:
            peer: who is expected there.
            address: where.
            within_s: how long it may take; by default until the caller cancels it, which then counts as no answer.

        Raises:
            OSError: none could be reached, or may be dialled, or it is not their turn. ValueError: there is no such name.
        """
        try:
            with nullcontext() if within_s == inf else anyio.fail_after(within_s):
                if address.configured:
                    wire = await _first(await self._resolver.hosts(address), address.port)
                    if wire.remote_host is not None:
                        self._configured.add(scope_of_host(wire.remote_host))
                else:
                    wire = await self._told(peer, address, only=within_s == inf)
        except TimeoutError as error:
            self._metrics.dials["failed"] += 1
            raise TimeoutError(str(error) or f"no answer within {within_s:g} s") from error
        except NotDialled:
            self._metrics.dials["refused"] += 1
            raise
        except Paused:
            self._metrics.dials["paused"] += 1
            raise
        except (OSError, ValueError):
            self._metrics.dials["failed"] += 1
            raise
        self._metrics.dials["connected"] += 1
        return wire

    def answered(self, wire: Wire, address: Address, peer: PeerId) -> None:
        """Over a wire to this address a peer has proven its key, whoever was expected."""
        if wire.remote_host is not None:
            self._attempts.answered(peer, wire.remote_host, address.port, anyio.current_time())

    def failed(self, wire: Wire, address: Address, peer: PeerId, error: str) -> None:
        """Over a wire to this address the peer that was expected has proven nothing; ``error`` says what happened instead."""
        if wire.remote_host is not None:
            self._attempts.failed(peer, wire.remote_host, address.port, anyio.current_time(), error)

    def proven(self, peer: PeerId, address: Address) -> bool:
        """Whether a peer has answered at a numeric address lately; a name may lead elsewhere by now."""
        return address.host_kind.startswith("ip") and self._attempts.proven(
            peer, address.host, address.port, anyio.current_time(), within_s=PROOF_S
        )

    async def _told(self, peer: PeerId, address: Address, *, only: bool) -> Wire:
        if why := self.refusal(address):
            raise NotDialled(f"not dialled: {why}")
        named = not address.host_kind.startswith("ip")
        if named:
            self._attempts.look_up(peer, address.host, anyio.current_time())
        hosts = await self._resolver.hosts(address)
        # What a name leads to is judged when it is dialled, and nothing else is dialled then: names may lead elsewhere the next time.
        for host in hosts:
            if why := host_refusal(host, self._scope()):
                raise NotDialled(f"not dialled: {address.host} leads to {host}, and {why}")
        failure: OSError | None = None
        for host in hosts[:HOSTS_MAX]:
            try:
                self._attempts.begin(peer, host, address.port, anyio.current_time(), looked_up=named)
                return await self._try(peer, host, address.port, only=only)
            except OSError as error:
                failure = failure or error
        assert failure is not None, "there is at least one host"
        try:
            raise failure
        finally:
            del failure  # in a circle with this frame it would keep all that is being sent

    async def _try(self, peer: PeerId, host: str, port: int, *, only: bool) -> Wire:
        answered = given_up = False
        why = ""
        try:
            wire = await _first((host,), port)
            answered = True
            return wire
        except anyio.get_cancelled_exc_class():
            given_up = not only  # another address may have answered first
            raise
        except OSError as error:
            why = str(error)
            raise
        finally:
            if not (answered or given_up):
                self._attempts.failed(peer, host, port, anyio.current_time(), why)


async def _first(hosts: Sequence[str], port: int) -> Wire:
    """A wire to the first host that answers; with several of them none is waited for for long."""
    failure: OSError | None = None
    for host in hosts[:HOSTS_MAX]:
        try:
            if len(hosts) == 1:
                return await Wire.connect(host, port)
            with anyio.fail_after(ATTEMPT_S):
                return await Wire.connect(host, port)
        except OSError as error:
            failure = failure or error
    try:
        raise failure or OSError("it has no host")
    finally:
        del failure  # as above
