"""Credentials that are shown are remembered within bounds in bytes."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from fluvial_trust_graph import shown
from fluvial_trust_graph.shown import ShownTrusts
from fluvial_trust_graph.statements import SCOPE_BYTES_MAX, SCOPES_MAX, TrustStatement, encode_statement, sign_trust

from tests.plugins.trust_graph.worlds import NETWORK, NOW, keys_of

ISSUER = keys_of("a")
SCOPES = tuple(f"{number:x}" * SCOPE_BYTES_MAX for number in range(SCOPES_MAX))


def credentials(count: int) -> list[bytes]:
    """Trusts as large as they may be, each another one."""
    return [
        encode_statement(
            sign_trust(
                TrustStatement(
                    network=NETWORK,
                    issuer=ISSUER.peer_id,
                    subject=keys_of("b").peer_id,
                    issued_at=NOW - 1,
                    sequence=number,
                    expires_at=NOW + 100,
                    scopes=SCOPES,
                ),
                ISSUER,
            )
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("good", [True, False])
def test_large_credentials_take_no_more_memory_than_there_is_for_them(
    good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "REMEMBERED_BYTES_MAX", 65_536)
    made = [one if good else one[:-1] + bytes([one[-1] ^ 1]) for one in credentials(100)]
    trusts = ShownTrusts(NETWORK)
    gc.collect()
    tracemalloc.start()
    try:
        for one in made:
            assert len(trusts.holding([bytes(bytearray(one))], NOW)) == good
        gc.collect()
        assert 16_384 < tracemalloc.get_traced_memory()[0] < 65_536 + 16_384
    finally:
        tracemalloc.stop()
