"""Proofs of trust paths for others: the trusts themselves, one after the other.

A proof is looked at often: with each record that it came with, each time that this is read, and by whoever repeats it. So what does not change is
remembered. Of a proof whose signatures are good that is its hash alone, so there is room for more of them than records of others find in memory, and
nobody can have them verified again with each read by bringing some hundred. Some trusts are remembered as well, of which another proof may have all but
one in common.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.live import DHT, LiveTrust
from fluvial_trust_graph.statements import TrustStatement, decode_statement, encode_statement, is_authentic

VERSION: Final = b"\x01"
PROOF_BYTES_MAX: Final = 16_384
"""Sixteen trusts with a few scopes each."""

PROOFS_REMEMBERED: Final = 65_536
"""Those with good signatures, by hash: 10 MB. A record with a proof that is costly to verify has a kilobyte and more, and all records 64 MiB."""
PROOFS_DECODED: Final = 256
TRUSTS_REMEMBERED: Final = 1_024
"""Of up to 3 KB each; usual ones have half a kilobyte."""


class SignedProofs:
    """Remembers of which proofs, of one network, each trust is its issuer's."""

    def __init__(self, network: str) -> None:
        self._network: Final = network
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """How many it remembers."""
        return len(self._good)

    def signed(self, proof: bytes, trusts: Sequence[TrustStatement]) -> bool:
        """Whether these trusts, which a proof consists of, are all signed. A forgery is not remembered: it costs its sender a record each time."""
        mark = sha256(proof).digest()
        if mark in self._good:
            self._good.move_to_end(mark)
            return True
        if not all(_is_authentic(one, self._network) for one in trusts):
            return False
        self._good[mark] = None
        if len(self._good) > PROOFS_REMEMBERED:
            self._good.popitem(last=False)
        return True


def encode_path(trusts: Sequence[TrustStatement]) -> bytes:
    """The bytes of a proof: a version, then each trust behind its length."""
    parts = [encode_statement(one) for one in trusts]
    return VERSION + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def decode_path(data: bytes) -> tuple[TrustStatement, ...]:
    """The trusts in a proof.

    Raises:
        RemoteProtocolError: the bytes are no proof.
    """
    if len(data) > PROOF_BYTES_MAX or not data.startswith(VERSION):
        raise RemoteProtocolError("this is no proof of trust of this version")
    found: list[TrustStatement] = []
    at = len(VERSION)
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or len(found) == EXPONENT_MAX:
            raise RemoteProtocolError(f"a proof has at most {EXPONENT_MAX} trusts, each whole")
        statement = decode_statement(data[at + 2 : end])
        if not isinstance(statement, TrustStatement):
            raise RemoteProtocolError("a proof consists of trusts")
        found.append(statement)
        at = end
    return tuple(found)


def prove_path(trust: LiveTrust, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
    """A proof that the owner trusts the provider by a path of at most so many links; None if none is known."""
    if length_max < 0:
        return None
    path = trust.path(owner, provider, length_max)
    if path is None:
        return None
    found = [trust.newest(issuer, subject) for issuer, subject in itertools.pairwise(path)]
    return encode_path([one for one in found if isinstance(one, TrustStatement)])


def is_path(
    trust: LiveTrust, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int, signed: SignedProofs, now: int
) -> bool:
    """Whether a proof shows a path, as far as this peer knows: it also looks at the revocations that it knows."""
    try:
        trusts = _trusts_of(proof)
    except RemoteProtocolError:
        return False
    peers = (owner, *(one.subject for one in trusts))
    hangs_together = all(one.issuer == before for one, before in zip(trusts, peers, strict=False))
    if not hangs_together or peers[-1] != provider or len(trusts) > length_max or len(set(peers)) < len(peers):
        return False
    if any(len(trusts) - 1 - at > one.depth for at, one in enumerate(trusts)):
        return False
    still_true = all(
        one.issued_at <= now < one.expires_at and one.covers(DHT) and not trust.overrules(one) for one in trusts
    )
    return still_true and signed.signed(proof, trusts) and not trust.bans_along(peers, DHT)


@lru_cache(maxsize=PROOFS_DECODED)
def _trusts_of(proof: bytes) -> tuple[TrustStatement, ...]:
    return decode_path(proof)


@lru_cache(maxsize=TRUSTS_REMEMBERED)
def _is_authentic(trust: TrustStatement, network: str) -> bool:
    return is_authentic(trust, network)
