"""What validators sign, and what follows from their signatures: certificates, and proof of an offence.

Every algorithm signs *statements* of one shape: (kind, epoch, slot, digest). So there is one certificate, one verifier for light clients, and one form
of evidence: two statements of one key, in one slot of one epoch, that no correct validator makes both.

======== ============ ========================= ==========================
kind     algorithm    slot                      digest
======== ============ ========================= ==========================
NOTARIZE Simplex      view                      block id
NULLIFY  Simplex      view                      32 zero bytes
FINALIZE Simplex      view                      block id
VERTEX   DAG          round                     id of the author's vertex
CHECKPOINT any        height of the ledger      block id
======== ============ ========================= ==========================
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec

from fluvial.encoding import encode
from fluvial.identity import PeerId

NOTARIZE: Final = 1
NULLIFY: Final = 2
FINALIZE: Final = 3
VERTEX: Final = 4
CHECKPOINT: Final = 5
KIND_NAMES: Final = {
    NOTARIZE: "notarize",
    NULLIFY: "nullify",
    FINALIZE: "finalize",
    VERTEX: "vertex",
    CHECKPOINT: "checkpoint",
}

NOTHING: Final = bytes(32)
"""The digest of a statement that names no block."""
SLOT_MAX: Final = 2**62
VALIDATORS_MAX: Final = 512
_DOMAIN: Final = b"fluvial/consensus/1\0"

Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Slot: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=SLOT_MAX)]
KindNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=5)]
Index: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]

PeerText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=54)]
"""The text of a peer id, as far as it is looked at before it is used."""

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""``(public key, signature, message) -> whether it is right``: ``fluvial.identity.verify``."""
Sign: TypeAlias = Callable[[bytes], bytes]
"""``message -> signature`` of 64 bytes, with this peer's key."""


def signed_bytes(chain: bytes, kind: int, epoch: int, slot: int, digest: bytes) -> bytes:
    """The bytes that a validator signs for a statement; chain and epoch keep the signature from counting anywhere else."""
    return _DOMAIN + chain + struct.pack(">BQQ", kind, epoch, slot) + digest


class Validator(msgspec.Struct, frozen=True, array_like=True):
    """Who takes part in the consensus, and with how many votes."""

    peer: PeerText
    power: int = 1


class ValidatorSet:
    """The validators of one epoch, in the order of the ledger; an index is a validator's place in it.

    Args:
        validators: at least one, each peer once, powers above 0.

    Raises:
        ValueError: these can be no set of validators.
    """

    def __init__(self, validators: Iterable[Validator]) -> None:
        self.members: Final[tuple[Validator, ...]] = tuple(validators)
        self.peers: Final[tuple[PeerId, ...]] = tuple(PeerId.parse(one.peer) for one in self.members)
        if not 0 < len(self.members) <= VALIDATORS_MAX or len(set(self.peers)) != len(self.peers):
            raise ValueError(f"a set has 1 to {VALIDATORS_MAX} different validators")
        if any(one.power < 1 for one in self.members):
            raise ValueError("a validator has a power of 1 or more")
        self.keys: Final = tuple(peer.public_key for peer in self.peers)
        self.power: Final = sum(one.power for one in self.members)
        self.quorum: Final = 2 * self.power // 3 + 1
        self._index: Final = {peer: index for index, peer in enumerate(self.peers)}

    def __len__(self) -> int:
        return len(self.members)

    def index(self, peer: PeerId) -> int | None:
        """The place of a peer; None if it is no validator."""
        return self._index.get(peer)

    def weight(self, indices: Iterable[int]) -> int:
        """The power of some validators together; each index at most once."""
        return sum(self.members[index].power for index in indices)

    @property
    def faulty_max(self) -> int:
        """The power that may be faulty without harm."""
        return (self.power - 1) // 3

    @cached_property
    def digest(self) -> bytes:
        """What block headers say of the set."""
        return sha256(b"fluvial/validators/1\0" + encode(self.members)).digest()


class Certificate(msgspec.Struct, frozen=True, array_like=True):
    """A quorum of equal statements.

    Attributes:
        signatures: (index of the validator, its signature), by ascending index.
    """

    kind: KindNumber
    epoch: Slot
    slot: Slot
    digest: Digest
    signatures: Annotated[tuple[tuple[Index, Signature], ...], msgspec.Meta(max_length=VALIDATORS_MAX)]

    def is_wellformed(self, validators: ValidatorSet) -> bool:
        """Whether different members of the set with the weight of a quorum are named in it; the signatures are not looked at."""
        indices = [index for index, _ in self.signatures]
        return (
            all(before < after for before, after in pairwise(indices))
            and all(index < len(validators) for index in indices)
            and validators.weight(indices) >= validators.quorum
        )

    def proves(self, chain: bytes, validators: ValidatorSet, verify: Verify) -> bool:
        """Whether a quorum of these validators has signed it. This is all that a light client checks of a certificate."""
        message = signed_bytes(chain, self.kind, self.epoch, self.slot, self.digest)
        return self.is_wellformed(validators) and all(
            verify(validators.keys[index], signature, message) for index, signature in self.signatures
        )


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """Two statements that one key must not make both: proof for everybody, from two signatures.

    Attributes:
        offender: its public key.
        first, second: (kind, digest, signature).
    """

    epoch: Slot
    slot: Slot
    offender: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    first: tuple[KindNumber, Digest, Signature]
    second: tuple[KindNumber, Digest, Signature]

    @property
    def offence(self) -> str:
        """A word for it; empty if a correct validator may say both."""
        return offence(self.first[0], self.first[1], self.second[0], self.second[1])

    def convicts(self, chain: bytes, verify: Verify) -> bool:
        """Whether it proves an offence on this chain."""
        return bool(self.offence) and all(
            verify(self.offender, signature, signed_bytes(chain, kind, self.epoch, self.slot, digest))
            for kind, digest, signature in (self.first, self.second)
        )


def offence(kind: int, digest: bytes, other_kind: int, other_digest: bytes) -> str:
    """The name of the offence of having signed both in one slot; empty if there is none.

    Source: the pairs are what makes a fork of Simplex provable once validators refuse to finalize a block of a view in which they have notarized
    another one; `docs/consensus.md`, "Offences".
    """
    if kind == other_kind:
        return f"double_{KIND_NAMES[kind]}" if digest != other_digest else ""
    pair = {kind, other_kind}
    if pair == {FINALIZE, NULLIFY}:
        return "finalize_and_nullify"
    if pair == {FINALIZE, NOTARIZE} and digest != other_digest:
        return "finalize_other"
    return ""


def leader_of(validators: ValidatorSet, epoch: int, slot: int) -> int:
    """Whose turn a slot is: round robin, starting at another validator in each epoch."""
    return (slot + epoch) % len(validators)


def sorted_signatures(signatures: dict[int, bytes]) -> Sequence[tuple[int, bytes]]:
    """Signatures as a certificate lists them."""
    return tuple(sorted(signatures.items()))
