"""``peer``: identity, time and contacts of the peer that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import msgspec

from fluvial.addresses import Address, Contact
from fluvial.clock import Clock
from fluvial.effectors import U64, Call, Effector, NoConfig, function
from fluvial.errors import RemoteProtocolError, ServiceError, Unreachable
from fluvial.fairness import Payer, SharedPlaces
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair, PeerId
from fluvial.seats import Answer
from fluvial.services.builtin.op import NOTHING
from fluvial.services.disclosure import Disclosure
from fluvial.services.status import Status
from fluvial.waiting import now_s

PING_PROTOCOL: Final = "/fluvial/ping/1"
"""A request with an empty payload. Any answer, even an error, proves that the connection stands."""


async def pong(sender: PeerId, payload: bytes) -> bytes:
    """Answer a ping."""
    return b""


PING: Final = Answer(protocol=PING_PROTOCOL, by=pong, bytes_max=1_024)
"""The protocol as every peer answers it."""

CONNECT_S_MAX: Final = 10.0
TIMEOUT_MS_MAX: Final = 600_000
"""The longest pause of ``timeout``, ten minutes: more than particles live in any sensible configuration."""

TIMERS_MAX: Final = 10_000
"""Pauses that have not ended, of everybody together, shared by who brought the flows. They take no places of calls: nothing is worked on meanwhile."""
TIMERS_PER_INITIATOR_MAX: Final = 512
"""Pauses of one initiator that have not ended."""

ADDRESSES_MAX: Final = 16
CONTACTS_FEW: Final = 64
CONTACTS_S: Final = 1.0
"""For so long it is not asked for more contacts than a few again, in seconds: there may be thousands, and a script may ask for its own thousands of times."""


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the node and of its AIR, for ``identify``."""

    node: str
    air: str


class Info(msgspec.Struct, frozen=True):
    """The result of ``identify``; the last three fields are the reference's, for things that are not part of Fluvial."""

    external_addresses: list[str]
    node_version: str
    air_version: str
    spell_version: str = ""
    allowed_binaries: list[str] = []
    vm_info: None = None


class PeerContact(msgspec.Struct, frozen=True):
    """A peer and the addresses known of it."""

    peer_id: PeerId
    addresses: list[str]


class PeerService(Effector[NoConfig]):
    """The peer that answers, and its neighbours.

    Args:
        keys: this peer's key pair.
        transport: asked for addresses and connections.
        routing: asked for contacts.
        clock: tells the time.
        versions: for ``identify``.
        disclosure: who may ask about other peers.
    """

    service_id = "peer"
    placeless = frozenset({"timeout"})

    def __init__(
        self,
        *,
        keys: KeyPair,
        transport: GuardedTransport,
        routing: GuardedRouting,
        clock: Clock,
        versions: Versions,
        disclosure: Disclosure,
    ) -> None:
        super().__init__()
        self._peer = keys.peer_id
        self._transport = transport
        self._routing = routing
        self._clock = clock
        self._versions = versions
        self._disclosure = disclosure
        self._contacts: dict[PeerId, Contact] = {}
        self._contacts_until_s = float("-inf")
        self._timers: Counter[PeerId] = Counter()  # by initiator
        self._places = SharedPlaces[PeerId](TIMERS_MAX, TIMERS_MAX, TIMERS_PER_INITIATOR_MAX)  # by who brought the flow

    @function(inline=True)
    def identify(self) -> Info:
        """Addresses and versions of the peer."""
        return Info([str(each) for each in self._transport.addresses], self._versions.node, self._versions.air)

    @function(inline=True)
    def timestamp_ms(self) -> U64:
        """Milliseconds since 1970."""
        return self._clock.now_ms()

    @function(inline=True)
    def timestamp_sec(self) -> U64:
        """Seconds since 1970."""
        return self._clock.now_ms() // 1_000

    @function(inline=True)
    def is_connected(self, call: Call, peer: PeerId) -> bool:
        """Whether a connection with a peer stands.

        Everybody may ask about itself; about others only those to whom the peer's owner discloses its neighbours (else status 8).
        """
        if peer != call.initiator:
            self._disclosure.check(call, "neighbours")
        return peer in self._transport.connected()

    @function
    async def connect(self, call: Call, peer: PeerId, addresses: list[str] | None = None) -> bool:
        """Whether a connection with a peer stands or could be made within ten seconds.

        Tried are the addresses given, within the limits for addresses that others tell, or else those that this peer knows. Only for particles
        that it began itself (else status 8).
        """
        if call.initiator != self._peer:
            raise ServiceError(
                Status.NOT_ALLOWED,
                f"peer {self._peer} makes connections only for particles that it began itself, not for those of {call.initiator}",
            )
        given = _addresses(peer, addresses or [])
        if peer == self._peer:
            raise ServiceError(Status.NO_RESULT, "a peer has no connection with itself")
        if peer in self._transport.connected():
            return True
        with anyio.move_on_after(CONNECT_S_MAX):
            contact = Contact(peer, given) if given else await self._routing.find(peer)
            return contact is not None and await self._answers(contact)
        return False

    async def _answers(self, contact: Contact) -> bool:
        try:
            await self._transport.request(contact, PING_PROTOCOL, b"", timeout_s=CONNECT_S_MAX)
        except RemoteProtocolError:
            return True
        except Unreachable:
            return False
        return True

    @function(inline=True)
    def get_contact(self, call: Call, peer: PeerId) -> PeerContact | None:
        """A peer and its addresses, as far as the peer that answers knows them without asking others; null if it does not know it.

        Only addresses that the owner configured or at which the peer has answered, as of the last second if there are many. Everybody may ask for the peer that answers and for itself;
        for others only those to whom the peer's owner discloses its neighbours (else status 8).
        """
        # Deviation: the reference node gives an empty string for a peer that it does not know.
        if peer == self._peer:
            return PeerContact(peer, [str(each) for each in self._transport.addresses])
        if peer != call.initiator:
            self._disclosure.check(call, "neighbours")
        known = self._known(peer)
        if known is None and peer not in self._transport.connected():
            return None
        return PeerContact(peer, [str(each) for each in known.addresses] if known else [])

    def _known(self, peer: PeerId) -> Contact | None:
        """What others may be told of a peer, as it was a moment ago."""
        if (now := now_s()) >= self._contacts_until_s:
            self._contacts = {each.peer: each for each in self._routing.contacts()}
            self._contacts_until_s = now + CONTACTS_S if len(self._contacts) > CONTACTS_FEW else now
        return self._contacts.get(peer)

    @function(timeout_s=TIMEOUT_MS_MAX / 1_000 + 10)
    async def timeout(self, call: Call, duration_ms: U64 | str, message: str | None = None) -> str:
        """`message`, or the empty string, after so many milliseconds (a number, or its digits as a string), at most 600,000.

        Meant for the other branch of a `par`.
        """
        # Deviation: bounded; in the reference node a script may hold a task for as long as its particle's ttl says.
        if isinstance(duration_ms, str) and not (duration_ms.isascii() and duration_ms.isdigit()):
            raise ServiceError(Status.BAD_ARGUMENTS, f"{duration_ms[:60]!r} is no number of milliseconds")
        if len(str(duration_ms)) > 20 or (milliseconds := int(duration_ms)) > TIMEOUT_MS_MAX:
            raise ServiceError(
                Status.BAD_ARGUMENTS, f"a pause of more than {TIMEOUT_MS_MAX:,} milliseconds is too long"
            )
        with self._timer(call.payer):
            await anyio.sleep(milliseconds / 1_000)
        return NOTHING if message is None else message

    @contextmanager
    def _timer(self, payer: Payer) -> Iterator[None]:
        """A place for a pause; raises ServiceError, status 6, if there is none."""
        initiator, sender = payer.initiator, payer.upstream.sender
        if self._timers[initiator] >= TIMERS_PER_INITIATOR_MAX or not self._places.take(sender):
            raise ServiceError(Status.BUSY, "too many pauses have not ended; try again later")
        self._timers[initiator] += 1
        try:
            yield
        finally:
            self._places.give(sender)
            self._timers[initiator] -= 1
            if not self._timers[initiator]:
                del self._timers[initiator]


def _addresses(peer: PeerId, texts: list[str]) -> tuple[Address, ...]:
    if len(texts) > ADDRESSES_MAX:
        raise ServiceError(Status.BAD_ARGUMENTS, f"{len(texts)} addresses are too many: at most {ADDRESSES_MAX}")
    try:
        addresses = [Address.parse(text) for text in texts]
    except ValueError as error:
        raise ServiceError(Status.BAD_ARGUMENTS, str(error)) from error
    for address in addresses:
        if address.peer not in (None, peer):
            raise ServiceError(Status.BAD_ARGUMENTS, f"the address {address} is not one of {peer}")
    return tuple(address.with_peer(peer) for address in addresses)
