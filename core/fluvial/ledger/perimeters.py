"""Security perimeters: who belongs together, decided by their administrators, in versions of which exactly one is current."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

import msgspec

from fluvial.encoding import decode
from fluvial.ledger.approvals import Approvals, agreeing
from fluvial.ledger.genesis import Key
from fluvial.ledger.setting import BlockSetting, BodyFailed
from fluvial.ledger.state import Changes, State
from fluvial.ledger.statements import PeerText

PERIMETERS: Final = "perimeters"
MEMBERS_MAX: Final = 256

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class PerimeterMember(msgspec.Struct, frozen=True, array_like=True):
    """A service at a peer; ``*`` means all services of the peer."""

    service: ShortText
    peer: PeerText


class PerimeterTerms(msgspec.Struct, frozen=True, array_like=True):
    """What the administrators of a perimeter decide about.

    Attributes:
        members: who belongs to it.
        policy: hash of the policy that they agree on; 32 zero bytes if there is none.
        administrators: public keys that may change it.
        threshold: how many of them must agree.
    """

    members: Annotated[tuple[PerimeterMember, ...], msgspec.Meta(max_length=MEMBERS_MAX)]
    policy: Key
    administrators: Annotated[tuple[Key, ...], msgspec.Meta(min_length=1, max_length=32)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=32)] = 1


class CreatePerimeter(msgspec.Struct, frozen=True, array_like=True, tag="perimeter"):
    """Create a perimeter; its id is :func:`perimeter_id` of the transaction's sender and nonce."""

    terms: PerimeterTerms


class UpdatePerimeter(msgspec.Struct, frozen=True, array_like=True, tag="perimeter+"):
    """Replace the terms; ``version`` is the one that is replaced, so that two changes cannot overwrite each other."""

    id: Key
    version: Annotated[int, msgspec.Meta(ge=1)]
    terms: PerimeterTerms
    approvals: Approvals = ()


class ClosePerimeter(msgspec.Struct, frozen=True, array_like=True, tag="perimeter-"):
    """End a perimeter for good."""

    id: Key
    version: Annotated[int, msgspec.Meta(ge=1)]
    approvals: Approvals = ()


class LedgerPerimeter(msgspec.Struct, frozen=True, array_like=True):
    """A perimeter as it stands on the ledger.

    Attributes:
        version: grows by one with each change, from 1.
        terms: the current ones; without members once it is closed.
        closed: whether it has ended.
    """

    version: int
    terms: PerimeterTerms
    closed: bool = False

    def holds(self, service: str, peer: str) -> bool:
        """Whether a service at a peer belongs to it."""
        return any(one.peer == peer and one.service in ("*", service) for one in self.terms.members)


def perimeter_id(sender: bytes, nonce: int) -> bytes:
    """The id of a perimeter that this transaction creates."""
    return sha256(b"fluvial/perimeter/1\0" + sender + nonce.to_bytes(8, "big")).digest()


def perimeter_of(state: State, name: bytes) -> LedgerPerimeter | None:
    """The perimeter of an id; None if there never was one."""
    value = state.get(PERIMETERS, name)
    return None if value is None else decode(value, LedgerPerimeter, what="perimeter")


def create_perimeter(changes: Changes, sender: bytes, nonce: int, body: CreatePerimeter) -> None:
    """Create one; raises BodyFailed."""
    _check(body.terms)
    changes.set(PERIMETERS, perimeter_id(sender, nonce), LedgerPerimeter(1, body.terms))


def update_perimeter(changes: Changes, setting: BlockSetting, sender: bytes, body: UpdatePerimeter) -> None:
    """Replace the terms of one; raises BodyFailed."""
    _check(body.terms)
    old = _current(changes, setting, sender, body)
    changes.set(PERIMETERS, body.id, LedgerPerimeter(old.version + 1, body.terms))


def close_perimeter(changes: Changes, setting: BlockSetting, sender: bytes, body: ClosePerimeter) -> None:
    """End one; its record stays, so that its end can be proven. Raises BodyFailed."""
    old = _current(changes, setting, sender, body)
    terms = msgspec.structs.replace(old.terms, members=())
    changes.set(PERIMETERS, body.id, LedgerPerimeter(old.version + 1, terms, closed=True))


def _current(
    changes: Changes, setting: BlockSetting, sender: bytes, body: UpdatePerimeter | ClosePerimeter
) -> LedgerPerimeter:
    old = changes.read(PERIMETERS, body.id, LedgerPerimeter)
    if old is None or old.closed:
        raise BodyFailed("no perimeter")
    if old.version != body.version:
        raise BodyFailed("changed meanwhile")
    if agreeing(setting.chain, sender, body, old.terms.administrators) < old.terms.threshold:
        raise BodyFailed("not enough administrators")
    return old


def _check(terms: PerimeterTerms) -> None:
    if terms.threshold > len(set(terms.administrators)):
        raise BodyFailed("nobody could change it again")
    if len(set(terms.members)) != len(terms.members):
        raise BodyFailed("a member twice")
