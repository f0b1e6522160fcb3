"""What two peers compare to find the statements that one of them lacks: digests of 256 buckets, then ids.

A statement's id is the first 16 bytes of SHA-256 of its bytes. It lies in the bucket that the first byte of SHA-256 of issuer and subject
names, so a statement and what replaces it share one. The digest of a bucket is the exclusive or of the ids' first 8 bytes. Somebody
who forges collisions deceives only those who ask them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from fluvial_trust_graph.statements import Statement, encode_statement

BUCKETS: Final = 256
ID_BYTES: Final = 16
DIGEST_BYTES: Final = 8


def id_of(statement: Statement) -> bytes:
    """The id of a signed statement: 16 bytes."""
    return hashlib.sha256(encode_statement(statement)).digest()[:ID_BYTES]


def bucket_of(statement: Statement) -> int:
    """The bucket of a statement."""
    return hashlib.sha256(statement.issuer.public_key + statement.subject.public_key).digest()[0]


class StatementIndex:
    """Statements by bucket and id; pure."""

    def __init__(self) -> None:
        self._buckets: list[set[bytes]] = [set() for _ in range(BUCKETS)]
        self._statements: dict[bytes, Statement] = {}
        self._digests = [0] * BUCKETS
        self._ids: dict[tuple[str, str], bytes] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, found: bytes) -> bool:
        return found in self._statements

    def put(self, statement: Statement) -> None:
        """Note a statement in place of what its issuer stated before about the subject."""
        pair = statement.issuer, statement.subject
        self.remove(statement)
        found, at = id_of(statement), bucket_of(statement)
        self._ids[pair] = found
        self._buckets[at].add(found)
        self._statements[found] = statement
        self._digests[at] ^= _short(found)

    def remove(self, statement: Statement) -> None:
        """Forget what is noted of its issuer about its subject."""
        old = self._ids.pop((statement.issuer, statement.subject), None)
        if old is not None:
            at = bucket_of(statement)
            self._buckets[at].discard(old)
            del self._statements[old]
            self._digests[at] ^= _short(old)

    def digests(self) -> bytes:
        """The digests of all buckets, one after the other."""
        return b"".join(one.to_bytes(DIGEST_BYTES, "big") for one in self._digests)

    def differing(self, digests: bytes) -> list[int]:
        """The buckets whose digests differ from those of another peer."""
        own = self.digests()
        size = DIGEST_BYTES
        return [
            at for at in range(BUCKETS) if own[at * size : at * size + size] != digests[at * size : at * size + size]
        ]

    def ids(self, buckets: Iterable[int], *, limit: int) -> list[bytes]:
        """The ids in some buckets, at most so many; looks at no bucket beyond these."""
        found: list[bytes] = []
        for at in buckets:
            if len(found) >= limit:
                break
            found += sorted(self._buckets[at])[: limit - len(found)]
        return found

    def lacking(self, ids: Sequence[bytes]) -> list[bytes]:
        """Which of these ids are not here."""
        return [one for one in ids if one not in self]

    def get(self, ids: Iterable[bytes]) -> list[Statement]:
        """The statements of ids, of those that are here."""
        return [self._statements[one] for one in dict.fromkeys(ids) if one in self._statements]


def _short(found: bytes) -> int:
    return int.from_bytes(found[:DIGEST_BYTES], "big")
