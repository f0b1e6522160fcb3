"""What the ledger says of trust: members of perimeters, and revocations. Both are read from the newest view, so what is committed holds from the next question on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.perimeters import PERIMETERS, LedgerPerimeter
from fluvial.ledger.revocations import REVOCATIONS, RevocationRecord, revocation_key
from fluvial.ports import Ledger, View

from fluvial_trust_graph.policy.perimeters import ListedPerimeters, Perimeter
from fluvial_trust_graph.statements import RevocationStatement, decode_statement

ALL_SERVICES: Final = "*"
TAKEN_AT_ONCE: Final = 64
"""Revocations of the ledger that are decoded and taken in before others get their turn: one or two milliseconds."""


class LedgerPerimeters(ListedPerimeters):
    """Listed perimeters; those that name one of the ledger have its members, and none as long as the ledger does not know it.

    Args:
        perimeters: by name.
        ledger: the port.
    """

    def __init__(self, perimeters: Mapping[str, Perimeter], ledger: Ledger) -> None:
        super().__init__(perimeters)
        self._ledger = ledger
        self._filled: dict[str, tuple[bytes | None, Perimeter, Perimeter]] = {}

    def get(self, name: str) -> Perimeter | None:
        """As :meth:`Perimeters.get`."""
        listed = super().get(name)
        if listed is None or not listed.ledger:
            return listed
        record = self._ledger.view().get(PERIMETERS, listed.ledger)
        known = self._filled.get(name)
        if known is None or known[0] != record or known[1] is not listed:
            known = self._filled[name] = record, listed, _filled(listed, record)
        return known[2]


def _filled(listed: Perimeter, record: bytes | None) -> Perimeter:
    """A perimeter with the members that the ledger names: whose flows are members, and which services are inside on which peers."""
    if record is None:
        return msgspec.structs.replace(listed, origin="the ledger does not know it")
    found = decode(record, LedgerPerimeter, what="perimeter of the ledger")
    members = found.terms.members
    return msgspec.structs.replace(
        listed,
        peers=frozenset(one.peer for one in members),
        authors=listed.authors | {one.peer for one in members},
        pairs=frozenset((one.peer, one.service) for one in members if one.service != ALL_SERVICES),
        origin=f"version {found.version} on the ledger; `fluvial consensus query perimeters {listed.ledger.hex()}` shows the proof",
    )


class LedgerRevocations:
    """Finds the revocations that have come onto the ledger.

    Args:
        ledger: the port.
        network: whose revocations.
        take: keeps and obeys statements; may raise StorageError.
    """

    def __init__(
        self, ledger: Ledger, network: str, take: Callable[[Sequence[RevocationStatement]], Awaitable[object]]
    ) -> None:
        self._ledger = ledger
        self._prefix = revocation_key(network, b"", b"")
        self._take = take
        self._taking = anyio.Lock()
        self._view: View | None = None
        """The newest one whose revocations are all taken in."""
        self._known: dict[bytes, bytes] = {}

    @property
    def behind(self) -> bool:
        """Whether a block has changed revocations that were not taken in yet; quick."""
        view = self._ledger.view()
        return bool(view.height) and (
            self._view is None or view.changed(REVOCATIONS) != self._view.changed(REVOCATIONS)
        )

    async def follow(self, *, again: bool = False) -> None:
        """Take in what was not there when it was last called.

        Args:
            again: all of them; some may be about peers that have got weight meanwhile.

        Raises:
            StorageError: they cannot be written; the next call tries again.
        """
        async with self._taking:
            if again:
                await self._take_in(list(self._known.values()))
            view = self._ledger.view()
            if self.behind:
                found = view.scan(REVOCATIONS, self._prefix, since=self._view)
                fresh = {key: text for key, text in found if self._known.get(key) != text}
                await self._take_in(list(fresh.values()))
                self._known |= fresh
            if view.height:
                self._view = (
                    view  # not an older one: that would keep in memory whatever has changed on the ledger since
                )

    async def _take_in(self, texts: Sequence[bytes]) -> None:
        """Take in some values of the ledger; others get their turn in between."""
        for at in range(0, len(texts), TAKEN_AT_ONCE):
            if found := [one for text in texts[at : at + TAKEN_AT_ONCE] for one in _statements(text)]:
                await self._take(found)
            await anyio.lowlevel.checkpoint()


def _statements(value: bytes) -> Sequence[RevocationStatement]:
    record = decode(value, RevocationRecord, what="revocation of the ledger")
    try:
        statement = decode_statement(record.statement)
    except RemoteProtocolError:
        return ()  # it names peers in a way that this authorization does not take
    return (statement,) if isinstance(statement, RevocationStatement) else ()
