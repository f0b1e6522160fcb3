"""Verifies who has signed the transactions that others bring in payloads, a few in each turn of the event loop, before the replica executes all of them in one piece."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fluvial.consensus.block_chain import beginning
from fluvial.consensus.engine import ReadPayloads
from fluvial.consensus.wire import EngineMessage, HistoryAnswer, tag_of
from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.transactions import ReportOffence, decode_payload, parse, remember
from fluvial.waiting import others_have_a_turn

IN_ONE_TURN: Final = 16
"""Signatures that are verified in one turn of the event loop: a millisecond or two."""
AHEAD_BYTES: Final = 4_096
"""Payloads with fewer bytes have no more signatures than that."""


def carried(
    messages: Iterable[bytes], *, asked: frozenset[bytes], height: int, of_engine: ReadPayloads | None
) -> Sequence[bytes]:
    """The payloads in messages, if they are large.

    Args:
        messages: of a frame.
        asked: the tags of answers that this peer waits for.
        height: up to which blocks are here.
        of_engine: reads those of messages of the engine; None if these are not looked at.

    Raises:
        RemoteProtocolError: a message is none.
    """
    found: list[bytes] = []
    for data in messages:
        match tag_of(data):
            case b"history" if b"history" in asked:
                blocks, _ = beginning(decode(data, HistoryAnswer, what="answer with blocks"), height)
                found += (block.payload for block in blocks if block.header.height > height)
            case b"engine" if of_engine is not None and len(data) > AHEAD_BYTES:
                found += of_engine(decode(data, EngineMessage, what="message of an engine").data)
    return found if sum(map(len, found)) > AHEAD_BYTES else ()


async def verify_ahead(payloads: Iterable[bytes]) -> None:
    """Verify the signatures in payloads, so that whoever executes them knows them.

    Nothing behind a wrong one is looked at: no correct validator proposes it, and whoever executes the payload finds out.
    """
    count = 0
    for payload in payloads:
        try:
            for transaction in decode_payload(payload):
                record = parse(transaction)
                if not isinstance(record, ReportOffence):
                    if not record.is_signed:
                        break
                    remember(transaction, record)
                count += 1
                if count % IN_ONE_TURN == 0:
                    await others_have_a_turn()
        except RemoteProtocolError:
            continue
