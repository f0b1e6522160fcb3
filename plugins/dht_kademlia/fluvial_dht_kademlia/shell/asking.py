"""Sends the machine's requests over the port ``peers``, to contacts as they are: the transport bounds how often addresses of strangers are dialled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.addresses import Contact
from fluvial.identity import PeerId
from fluvial.ports import Peers

from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.wire import PROTOCOL, decode_answer, encode_request


class ContactAsker:
    """See the module's docstring.

    Args:
        peers: the port.
        timeout_ms: for one request, the connection included.
        contacts_taken: how many contacts of a peer's answer are looked at.
    """

    def __init__(self, peers: Peers, timeout_ms: int, contacts_taken: Callable[[PeerId], int]) -> None:
        self._peers: Final = peers
        self._timeout_s = timeout_ms / 1_000
        self._contacts_taken = contacts_taken

    async def ask(self, contact: Contact, request: DhtRequest) -> DhtAnswer:
        """The answer of a contact.

        Raises:
            Unreachable: it cannot be reached, must not be dialled now, or does not answer in time.
            RemoteProtocolError: its answer is none.
        """
        answer = await self._peers.request(contact, PROTOCOL, encode_request(request), timeout_s=self._timeout_s)
        return decode_answer(answer, contacts_max=self._contacts_taken(contact.peer))
