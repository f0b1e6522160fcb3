"""The conformance kit for routings: subclass it, say how yours is built, run pytest.

::

    class TestKad(RoutingConformance):
        tables = TABLES

        @pytest.fixture
        def build(self):
            return lambda context: Kad(context, Options())
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

from fluvial.addresses import Address, Contact
from fluvial.ports import Capability, Provider
from fluvial.seats import Routing
from fluvial.testing.part import STRANGER, PartConformance, check, peer_of
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import Solo

ADDRESS: Final = Address.parse("/ip4/192.0.2.1/tcp/7771")
WEATHER: Final = Capability("service", "weather")
ADDRESSES_MAX: Final = 64
"""More addresses of one peer nobody can use."""


class RoutingConformance(PartConformance):
    """What every routing must do, besides what every part must. The one fixture to give is ``build``."""

    kind: ClassVar[PartKind] = "routing"
    contacts_max: ClassVar[int] = 4096
    """Contacts of strangers that it keeps at most, as built."""

    def asked(self, part: Routing) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The methods that the node awaits, by name."""
        return {
            "find": lambda: part.find(STRANGER.peer_id),
            "providers": lambda: part.providers(WEATHER, limit=3),
        }

    async def test_strangers_are_not_found(self, running: Solo[Routing]) -> None:
        """None, not an error, and not a contact without a way."""
        found = await running.part.find(STRANGER.peer_id)
        check(found is None or found.addresses, f"find() returned {found!r} for a peer of whom nothing is known")

    async def test_what_is_found_is_who_was_asked_for(self, running: Solo[Routing]) -> None:
        """A peer announces addresses; those that name somebody else at their end are not its own."""
        peer, other = peer_of(1), peer_of(2)
        running.part.learn(Contact(peer, (ADDRESS.with_peer(peer), ADDRESS.with_peer(other))))
        found = await running.part.find(peer)
        if found is not None:
            check(found.peer == peer, f"find() returned a contact of {found.peer}")
            check(all(one.peer in (None, peer) for one in found.addresses), f"{found} leads to somebody else")

    async def test_others_are_shown_only_where_a_peer_answered(self, running: Solo[Routing]) -> None:
        """What a peer announces may lead to anybody; `contacts()` has it once the peer has shown its key there."""
        peer, claimed = peer_of(4), Address(host_kind="ip4", host="192.0.2.4", port=7771)
        running.part.learn(Contact(peer, (claimed.with_peer(peer),)))
        shown = [way for one in running.part.contacts() if one.peer == peer for way in one.addresses]
        check(not shown, f"contacts() shows {shown}, where nobody has answered")
        running.part.proven(peer, ADDRESS.with_peer(peer))
        shown = [way for one in running.part.contacts() if one.peer == peer for way in one.addresses]
        check(claimed.with_peer(peer) not in shown, f"contacts() shows {shown} after another address was proven")

    async def test_it_does_not_find_itself(self, running: Solo[Routing]) -> None:
        """What others say about this peer does not come back as a contact."""
        running.part.learn(Contact(running.peer, (ADDRESS.with_peer(running.peer),)))
        check(all(one.peer != running.peer for one in running.part.contacts()), "contacts() has the peer itself")

    async def test_strangers_cannot_fill_it(self, running: Solo[Routing]) -> None:
        """It keeps a bounded number of contacts, and a bounded number of addresses for each."""
        peer = peer_of(3)
        many = tuple(Address(host_kind="ip4", host="192.0.2.1", port=port, peer=peer) for port in range(1, 400))
        running.part.learn(Contact(peer, many))
        found = await running.part.find(peer)
        check(found is None or len(found.addresses) <= ADDRESSES_MAX, "it keeps any number of addresses of one peer")
        before = len(running.part.contacts())
        for number in range(self.contacts_max + 50):
            stranger = peer_of(1000 + number)
            running.part.learn(Contact(stranger, (ADDRESS.with_peer(stranger),)))
        kept = len(running.part.contacts())
        check(kept <= self.contacts_max + before, f"it keeps {kept} contacts, more than {self.contacts_max}")

    async def test_providers_are_as_many_as_asked_for(self, running: Solo[Routing]) -> None:
        """None for what nobody has; never more than the limit."""
        for limit in (0, 1, 8):
            found: Any = await running.part.providers(WEATHER, limit=limit)
            check(len(found) <= limit, f"providers(limit={limit}) returned {len(found)}")
            check(all(isinstance(one, Provider) for one in found), f"providers() returned {found!r}")
