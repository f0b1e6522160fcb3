"""Global names: first come, first served, without being overtaken by who sees the wish on its way.

A name is wished for in two steps. First a hash of the name, a salt and the owner is committed; 1 to 100 blocks later the name is revealed. Who
sees the reveal cannot be first any more, and who sees the hash can keep nobody from it: each key has its own commitments. A name is leased for a number
of blocks, and kept for its owner a while after that.

Names are ASCII: whether two letters look alike, or which is the lower case of which, depends on tables that differ between versions of Python, and all
validators must agree.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from fluvial.encoding import decode
from fluvial.ledger.genesis import Key
from fluvial.ledger.setting import BlockSetting, BodyFailed
from fluvial.ledger.state import Changes, State

NAMES: Final = "names"
COMMITMENTS: Final = "name commitments"
REVEAL_MAX: Final = 100
"""A name is revealed at most so many blocks after it was committed, and at least one."""
LEASE_BLOCKS: Final = 1_000_000
GRACE_BLOCKS: Final = 100_000
"""After the lease only the owner can renew, for so many blocks; then anybody can have the name."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")

NameText = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Target = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
"""What a name stands for: a key of the DHT, a peer id, a service or a flow, as text."""


class CommitName(msgspec.Struct, frozen=True, array_like=True, tag="name?"):
    """Wish for a name without saying which; see :func:`commitment`."""

    commitment: Key


class RevealName(msgspec.Struct, frozen=True, array_like=True, tag="name!"):
    """Say which name was wished for, and take it."""

    name: NameText
    salt: Key
    target: Target


class ChangeName(msgspec.Struct, frozen=True, array_like=True, tag="name"):
    """Let one's own name stand for something else, belong to another key, and last longer.

    Attributes:
        target: the new target; None leaves it.
        to: the new owner; None leaves it.
        renew: whether to lease it anew.
    """

    name: NameText
    target: Target | None = None
    to: Key | None = None
    renew: bool = False


class ReleaseName(msgspec.Struct, frozen=True, array_like=True, tag="name-"):
    """Give one's own name back."""

    name: NameText


NameBody = CommitName | RevealName | ChangeName | ReleaseName


class NameRecord(msgspec.Struct, frozen=True, array_like=True):
    """A name as it stands on the ledger.

    Attributes:
        owner: public key.
        target: what it stands for.
        until: the last height of the lease.
    """

    owner: bytes
    target: str
    until: int


def commitment(name: str, salt: bytes, owner: bytes) -> bytes:
    """What is committed before a name is revealed; the salt, 32 random bytes, keeps it from being guessed."""
    return sha256(b"fluvial/name/1\0" + salt + owner + name.encode()).digest()


def is_name(text: str) -> bool:
    """Whether a text can be a name: small ASCII letters, digits, and hyphens within. No peer id is one: they have capitals."""
    return _NAME.fullmatch(text) is not None


def resolve(state: State, name: str, height: int) -> NameRecord | None:
    """The record of a name that is leased at a height; None if it is not."""
    value = state.get(NAMES, name.encode())
    record = None if value is None else decode(value, NameRecord, what="name")
    return record if record is not None and height <= record.until else None


def apply_name(changes: Changes, setting: BlockSetting, sender: bytes, body: NameBody) -> None:
    """Carry out a transaction about a name; raises BodyFailed."""
    match body:
        case CommitName(wish):
            if changes.get(COMMITMENTS, sender + wish) is not None:
                raise BodyFailed("committed already")
            changes.set(COMMITMENTS, sender + wish, setting.height)
        case RevealName():
            _reveal(changes, setting, sender, body)
        case ChangeName(name, target, to, renew):
            old = _own(changes, setting, sender, name)
            until = setting.height + LEASE_BLOCKS if renew else old.until
            changes.set(NAMES, name.encode(), NameRecord(to or old.owner, target or old.target, until))
        case ReleaseName(name):
            _own(changes, setting, sender, name)
            changes.set(NAMES, name.encode(), None)


def _reveal(changes: Changes, setting: BlockSetting, sender: bytes, body: RevealName) -> None:
    if not is_name(body.name):
        raise BodyFailed("no name")
    wish = sender + commitment(body.name, body.salt, sender)
    committed_at = changes.read(COMMITMENTS, wish, int)
    if committed_at is None or not 1 <= setting.height - committed_at <= REVEAL_MAX:
        raise BodyFailed("not committed in time")
    old = changes.read(NAMES, body.name.encode(), NameRecord)
    if old is not None and setting.height <= old.until + GRACE_BLOCKS:
        raise BodyFailed("taken")
    changes.set(COMMITMENTS, wish, None)
    changes.set(NAMES, body.name.encode(), NameRecord(sender, body.target, setting.height + LEASE_BLOCKS))


def _own(changes: Changes, setting: BlockSetting, sender: bytes, name: str) -> NameRecord:
    record = changes.read(NAMES, name.encode(), NameRecord)
    if record is None or record.owner != sender or setting.height > record.until + GRACE_BLOCKS:
        raise BodyFailed("not the owner")
    return record
