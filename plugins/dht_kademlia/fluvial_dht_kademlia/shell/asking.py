"""Sends the machine's requests over the port ``peers``: to contacts as they are, within what the dial guard allows."""

from __future__ import annotations

from typing import Final

from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.errors import ProtocolError, Unreachable
from fluvial.ports import Peers

from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.shell.dial_guard import DialGuard
from fluvial_dht_kademlia.wire import PROTOCOL, decode_answer, encode_request


class ContactAsker:
    """See the module's docstring.

    Args:
        peers: the port.
        clock: the time.
        timeout_ms: for one request, the connection included.
    """

    def __init__(self, peers: Peers, clock: Clock, timeout_ms: int) -> None:
        self._peers: Final = peers
        self._clock = clock
        self._timeout_s = timeout_ms / 1_000
        self._guard = DialGuard()

    async def ask(self, contact: Contact, request: DhtRequest) -> DhtAnswer:
        """The answer of a contact.

        Raises:
            Unreachable: it cannot be reached, may not be dialled now, or does not answer in time.
            RemoteProtocolError: its answer is none.
        """
        if contact.peer in self._peers.connected():
            return await self._request(Contact(contact.peer, contact.addresses), request)
        allowed = self._guard.allowed(contact.peer, contact.addresses, self._clock.now_ms())
        if not allowed:
            raise Unreachable(f"{contact.peer}: none of its addresses may be dialled now")
        self._guard.begin(allowed)
        reached = False
        try:
            answer = await self._request(Contact(contact.peer, allowed), request)
            reached = True
        except ProtocolError:
            reached = True  # whoever answers with an error is there
            raise
        finally:
            report = self._guard.met if reached else self._guard.failed
            report(contact.peer, allowed, self._clock.now_ms())
        return answer

    async def _request(self, contact: Contact, request: DhtRequest) -> DhtAnswer:
        return decode_answer(
            await self._peers.request(contact, PROTOCOL, encode_request(request), timeout_s=self._timeout_s)
        )
