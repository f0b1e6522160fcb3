"""Verifies who has signed the transactions of blocks that somebody brings, a few in each turn of the event loop, before the replica executes the blocks in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.consensus.block_chain import beginning
from fluvial.consensus.wire import HistoryAnswer
from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import LedgerBlock
from fluvial.ledger.transactions import ReportOffence, decode_payload, parse, remember
from fluvial.waiting import others_have_a_turn

IN_ONE_TURN: Final = 16
"""Signatures that are verified in one turn of the event loop: a millisecond or two."""


async def verify_ahead(data: bytes, height: int) -> None:
    """Verify the signatures in an answer to a question for history, so that whoever executes it knows them.

    Args:
        data: the answer.
        height: up to which blocks are here.

    Raises:
        RemoteProtocolError: it is no such answer.
    """
    answer = decode(data, HistoryAnswer, what="answer to a question for history")
    for number, transaction in enumerate(_transactions(beginning(answer, height)[0], height), 1):
        try:
            record = parse(transaction)
        except RemoteProtocolError:
            return  # whoever executes it says so
        if not isinstance(record, ReportOffence) and record.is_signed:
            remember(transaction, record)
        if number % IN_ONE_TURN == 0:
            await others_have_a_turn()


def _transactions(blocks: Sequence[LedgerBlock], height: int) -> Sequence[bytes]:
    try:
        return [one for block in blocks if block.header.height > height for one in decode_payload(block.payload)]
    except RemoteProtocolError:
        return ()
