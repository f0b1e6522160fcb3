"""The credentials that a flow carries, read: trusts whose signatures are verified once and remembered for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from fluvial.errors import RemoteProtocolError

from fluvial_trust_graph.statements import (
    SIGNING_TAG,
    STATEMENT_BYTES_MAX,
    TrustStatement,
    decode_statement,
    is_authentic,
)

REMEMBERED_BYTES_MAX: Final = 4 * 2**20
"""The memory for credentials whose signatures are not verified again: some thousands of usual ones."""
CREDENTIAL_BYTES: Final = 600
"""The memory of a credential beside three times its length. Measured, from above."""


class ShownTrusts:
    """Reads credentials.

    Args:
        network: of this peer.
    """

    def __init__(self, network: str) -> None:
        self._network = network
        self._known: OrderedDict[bytes, TrustStatement | None] = OrderedDict()
        self._bytes = 0

    def holding(self, credentials: Sequence[bytes], now: int) -> tuple[TrustStatement, ...]:
        """The authentic trusts among credentials that hold now; what is of another kind, forged or over is left out."""
        found = [self._read(one) for one in credentials if one.startswith(SIGNING_TAG)]
        return tuple(one for one in found if one is not None and one.issued_at <= now < one.expires_at)

    def _read(self, credential: bytes) -> TrustStatement | None:
        if len(credential) > STATEMENT_BYTES_MAX:
            return None
        if credential in self._known:
            self._known.move_to_end(credential)
            return self._known[credential]
        try:
            statement = decode_statement(credential)
        except RemoteProtocolError:
            statement = None
        good = isinstance(statement, TrustStatement) and is_authentic(statement, self._network)
        found = statement if good and isinstance(statement, TrustStatement) else None
        self._known[credential] = found
        self._bytes += _weight(credential)
        while self._bytes > REMEMBERED_BYTES_MAX:
            oldest, _ = self._known.popitem(last=False)
            self._bytes -= _weight(oldest)
        return found


def _weight(credential: bytes) -> int:
    return CREDENTIAL_BYTES + 3 * len(credential)
