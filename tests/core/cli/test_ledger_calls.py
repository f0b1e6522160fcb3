"""What `fluvial consensus` says when a peer does not serve who asks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fluvial.cli.ledger_calls import STRANGER, through
from fluvial.cli.reaching import Reach
from fluvial.errors import Refused
from fluvial.testing.nodes import keys_of


class ToNobody(Reach):
    """A way on which nothing is sent."""

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """No client."""
        return nullcontext()


@pytest.mark.parametrize(
    ("key_file", "reason", "hint"),
    [
        (None, "perimeter", STRANGER),
        (Path("mine.key"), "perimeter", ""),
        (None, "transaction", ""),
    ],
)
def test_a_peer_that_refuses_a_stranger_is_no_riddle(key_file: Path | None, reason: str, hint: str) -> None:
    async def refused(ledger: object) -> None:
        raise Refused("no", reason=reason)

    way = ToNobody(f"/ip4/127.0.0.1/tcp/1/p2p/{keys_of('ada').peer_id}", "test", key_file)
    with pytest.raises(Refused) as raised:
        through(way, refused)
    assert (raised.value.message, raised.value.reason, raised.value.hint) == ("no", reason, hint)
