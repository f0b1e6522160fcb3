"""Whether a peer answers: asked over the connection to it, or through the relay that has one.

The relay is asked with the 32 bytes of the peer's public key, and answers with the canonical bytes of one of three words:

=========== ================================================
``answers`` the peer has answered a ping of the relay
``silent``  it is connected, and has not answered in time
``away``    no connection to it stands
=========== ================================================

However many ask about a peer, it gets one ping at a time, and none within a moment of its last answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from fluvial.addresses import Contact
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, RemoteProtocolError, Unreachable
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import PUBLIC_KEY_BYTES, PeerId
from fluvial.seats import Answer
from fluvial.services.builtin import PING_PROTOCOL
from fluvial.waiting import Event, now_s

PROTOCOL: Final = "/fluvial/alive/1"
PATIENCE_S: Final = 0.75
"""How long a peer may take for a ping. A round trip around the earth takes a third of it."""
RELAY_S: Final = 2 * PATIENCE_S
"""How long a relay may take: it answers within its own patience."""
DIAL_S: Final = 1.5
"""For a ping over a connection that must be made for it."""
FRESH_S: Final = 0.25
HEARD_MAX: Final = 1_024

Sign: TypeAlias = Literal["answers", "silent", "away"]


class _Ping(msgspec.Struct, eq=False):
    """A ping that is under way, and for whoever waits for it what it told, if it told anything.

    An event, since each of them may be cancelled: a future would be cancelled with any of them for all.
    """

    ended: Event = msgspec.field(default_factory=Event)
    sign: Sign | None = None


class LifeSigns:
    """See the module's docstring.

    Args:
        transport, routing: the seats.
        relays: this peer's own relays now, best first.
    """

    def __init__(
        self, transport: GuardedTransport, routing: GuardedRouting, *, relays: Callable[[], Sequence[Contact]]
    ) -> None:
        self._transport = transport
        self._routing = routing
        self._relays = relays
        self._asked: dict[PeerId, _Ping] = {}
        self._heard: OrderedDict[PeerId, float] = OrderedDict()

    @property
    def answer(self) -> Answer:
        """The protocol as a relay answers it."""
        return Answer(protocol=PROTOCOL, by=self._answer, bytes_max=PUBLIC_KEY_BYTES, at_once=128, per_sender=16)

    async def missing(self, peer: PeerId, *, relay: PeerId | None, dial: bool) -> str:
        """Ask a peer for a sign of life.

        Args:
            peer: whom.
            relay: the relay that is known to lead to it.
            dial: whether a connection that is lost is made again for this; else somebody tries that already.

        Returns:
            Why there was none, as the end of a sentence about the peer; empty if there was one, or it cannot be found out.
        """
        connected = self._transport.connected()
        if peer in connected:
            return "it gives no sign of life" if await self.ping(peer) == "silent" else ""
        relay = relay or next((one.peer for one in self._relays() if one.peer in connected), None)
        if relay not in (None, peer):
            return await self._missing_beyond(relay, peer)
        return await self._missing_at_once(peer) if dial else "no connection to it stands so far"

    async def ping(self, peer: PeerId) -> Sign:
        """Ask a peer over the connection that stands, if one does."""
        while True:
            if peer not in self._transport.connected():
                return "away"
            if self._heard.get(peer, float("-inf")) + FRESH_S > now_s():
                return "answers"
            if (asked := self._asked.get(peer)) is None:
                return await self._ask(peer)
            await asked.ended.wait()
            if asked.sign is not None:
                return asked.sign

    async def _ask(self, peer: PeerId) -> Sign:
        """Ping a peer for all who want to know; if this one is cancelled, another one asks anew."""
        asked = self._asked[peer] = _Ping()
        try:
            asked.sign = await self._ping(peer)
        finally:
            del self._asked[peer]
            asked.ended.set()
        return asked.sign

    async def _ping(self, peer: PeerId) -> Sign:
        try:
            await self._transport.request(Contact(peer), PING_PROTOCOL, b"", timeout_s=PATIENCE_S)
        except Unreachable:
            return "silent" if peer in self._transport.connected() else "away"
        except FluvialError:
            pass  # an error is an answer, too
        self._heard[peer] = now_s()
        self._heard.move_to_end(peer)
        if len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)
        return "answers"

    async def _missing_at_once(self, peer: PeerId) -> str:
        known = self._routing.known(peer)
        ways = () if known is None else tuple(way for way in known.addresses if way.relay is None)
        if not ways:
            return "the connection to it is lost"
        try:
            await self._transport.request(Contact(peer, ways), PING_PROTOCOL, b"", timeout_s=DIAL_S)
        except Unreachable as error:
            return f"the connection to it is lost: {error.message}"
        except FluvialError:
            pass
        return ""

    async def _missing_beyond(self, relay: PeerId, peer: PeerId) -> str:
        match await self.ping(relay):
            case "silent":
                return f"the relay {relay} on the way gives no sign of life"
            case "away":
                return f"the relay {relay} on the way is not connected"
        try:
            answer = await self._transport.request(Contact(relay), PROTOCOL, peer.public_key, timeout_s=RELAY_S)
            sign: Sign = decode(answer, Sign, what="sign of life")  # type: ignore[arg-type]  # a Literal is a type to msgspec
        except FluvialError:
            return ""  # it is busy, or does not know this question
        match sign:
            case "silent":
                return f"it gives no sign of life; the relay {relay} on the way does"
            case "away":
                return f"the relay {relay} on the way has no connection to it"
            case "answers":
                return ""

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        """As a relay."""
        if len(payload) != PUBLIC_KEY_BYTES:
            raise RemoteProtocolError(f"this is no public key: {len(payload)} bytes")
        return encode(await self.ping(PeerId.from_public_key(payload)))
