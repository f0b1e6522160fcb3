"""Whether others can dial this peer: it asks some of them, which dial it back at the addresses that it announces.

A peer that is asked proves the addresses as it does with everybody who speaks its protocol, within its limits, and answers with those that it has proven. So
nobody can be made to dial others than the one who asks. Where the asker listens on all interfaces, the one who is asked dials the host from which it came,
and so tells it where it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Annotated, Final, TypeAlias

import anyio
import msgspec
from fluvial.addresses import Address, Contact
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.ports import Peers
from fluvial.seats import Answer

from fluvial_dht_kademlia.machine.limits import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX
from fluvial_dht_kademlia.shell.observed import ObservedAddresses, is_everywhere

PROTOCOL: Final = "/kademlia/reach/1"
ASKED_MAX: Final = 3
FIRST_S: Final = 10.0
EVERY_S: Final = 600.0
ASK_S: Final = 10.0
PROVE_S: Final = 5.0
AT_ONCE: Final = 8

AddressesField: TypeAlias = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)], ...], msgspec.Meta(max_length=ADDRESSES_MAX)
]


class Reachability:
    """See the module's docstring.

    Args:
        peers: the port.
        told: a peer with all the addresses that it announced.
        neighbours: whom to ask.
        rng: chooses among them.
    """

    def __init__(
        self,
        peers: Peers,
        *,
        told: Callable[[PeerId], Contact],
        neighbours: Callable[[], Sequence[Contact]],
        rng: Random,
    ) -> None:
        self._peers: Final = peers
        self._told = told
        self._neighbours = neighbours
        self._rng = rng
        self._answers: dict[PeerId, frozenset[Address]] = {}
        self._observed = ObservedAddresses()

    @property
    def answer(self) -> Answer:
        """The protocol."""
        return Answer(protocol=PROTOCOL, by=self._answer, bytes_max=1, at_once=AT_ONCE, per_sender=1)

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        told = self._told(sender)
        direct = tuple(address for address in told.addresses if address.relay is None)
        proven = await self._peers.prove(Contact(sender, direct), timeout_s=PROVE_S)
        return encode([str(address) for address in proven.addresses[:ADDRESSES_MAX]])

    async def run(self) -> None:
        """Ask from time to time, until cancelled; a client has nothing to ask for."""
        await anyio.sleep(FIRST_S)
        while True:
            if self._peers.addresses():
                await self.ask()
            await anyio.sleep(EVERY_S)

    async def ask(self) -> None:
        """Ask a few neighbours where they could dial this peer."""
        everybody = list(self._neighbours())
        answers: dict[PeerId, frozenset[Address]] = {}
        for contact in self._rng.sample(everybody, min(ASKED_MAX, len(everybody))):
            try:
                answer = await self._peers.request(contact, PROTOCOL, b"", timeout_s=ASK_S)
                said = _addresses(decode(answer, AddressesField, what="list of addresses"))
            except FluvialError:  # nothing is known then
                continue
            answers[contact.peer] = said
            self._observed.heard(contact, said)
        self._answers = answers

    def own_addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled, as it tells others in records: what it announces, made good by what others have seen."""
        return self._observed.in_place_of(self._peers.addresses())

    def findings(self) -> Iterator[Finding]:
        """Of each announced address, whether those who were asked could dial it."""
        asked = len(self._answers)
        announced = self._peers.addresses() if asked else ()
        for address in announced:
            if is_everywhere(address):
                yield self._seen(address)
                continue
            reached = sum(_at(address) in answer for answer in self._answers.values())
            if reached:
                yield Finding(level="ok", text=f"{reached} of {asked} peers could dial {_bare(address)}")
            else:
                yield Finding(
                    level="warn",
                    text=f"none of {asked} peers could dial {_bare(address)}",
                    hint="announce an address that others reach, or let relays stand in: `relays` at the top of the settings",
                )

    def _seen(self, everywhere: Address) -> Finding:
        """What became of an address that stands for all interfaces."""
        seen = self._observed.in_place_of([everywhere])
        if seen:
            where = " and ".join(map(_bare, seen))
            votes = self._observed.votes(seen[0])
            return Finding(
                level="ok", text=f"{votes} of {len(self._observed)} networks see {_bare(everywhere)} at {where}"
            )
        return Finding(
            level="warn",
            text=f"no two networks agree on where they can dial {_bare(everywhere)}",
            hint="announce an address that others reach, or let relays stand in: `relays` at the top of the settings",
        )


def _addresses(texts: Sequence[str]) -> frozenset[Address]:
    """What somebody has said, without the peer.

    Raises:
        RemoteProtocolError: one of them is no address.
    """
    try:
        return frozenset(_at(Address.parse(text)) for text in texts)
    except ValueError as error:
        raise RemoteProtocolError(f"this is no list of addresses: {error}") from error


def _at(address: Address) -> Address:
    return replace(address, peer=None)


def _bare(address: Address) -> str:
    return str(address).partition("/p2p/")[0]
