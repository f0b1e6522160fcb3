"""The conformance kit for whoever sits in the seat of consensus and holds the ledger; ``engine.py`` has the one for algorithms.

::

    class TestChain(ConsensusConformance):
        @pytest.fixture
        def build(self):
            return lambda context: Chain(context, Options())
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

import anyio
import pytest

from fluvial.errors import FluvialError, Refused
from fluvial.seats import Consensus
from fluvial.testing.part import PartConformance, check
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import Solo


class ConsensusConformance(PartConformance):
    """What every holder of a ledger must do, besides what every part must. The one fixture to give is ``build``."""

    kind: ClassVar[PartKind] = "consensus"

    def asked(self, part: Consensus) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The methods that the node awaits, by name."""
        return {"submit": lambda: part.submit(b"conformance")}

    async def test_views_never_change(self, running: Solo[Consensus]) -> None:
        """What was read once stays as it is; a later view is at least as high."""
        before = running.part.view()
        seen = (before.height, before.root)
        await anyio.sleep(60)
        check((before.height, before.root) == seen, "a view has changed while it was held")
        check(running.part.view().height >= before.height, "the ledger has become shorter")

    async def test_what_is_not_there_is_not_there(self, running: Solo[Consensus]) -> None:
        """No value and nothing to scan; without blocks no root and no proofs."""
        view = running.part.view()
        check(view.get("no-such-module", b"key") is None, "get() returns a value of a module that does not exist")
        check(not list(view.scan("no-such-module", b"")), "scan() finds keys of a module that does not exist")
        check(not list(view.scan("no-such-module", b"", since=view)), "scan(since=…) finds keys of such a module")
        if view.height == 0:
            check(view.root == b"", "there is a root without blocks")
            check(view.proof("no-such-module", b"key") is None, "there is a proof without blocks")

    async def test_garbage_is_refused(self, running: Solo[Consensus]) -> None:
        """With Refused, and nothing else."""
        for garbage in (b"", b"\0", b"{}", bytes(100_000)):
            try:
                await running.part.submit(garbage)
            except Refused:
                continue
            except FluvialError as error:
                pytest.fail(f"submit({garbage[:8]!r}) raised {error!r}, not Refused")
            pytest.fail(f"submit({garbage[:8]!r}) was taken")
