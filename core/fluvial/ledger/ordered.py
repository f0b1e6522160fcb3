"""Which transactions of ordered payloads come into one block, where several authors have filled payloads and nobody has checked them.

A block holds so many bytes and so many transactions, and all peers must choose the same ones, so nothing is executed to choose. If there is no room for
all, the author goes next who has the least so far; so one who fills the largest payloads takes room that others do not use, and no more. What is left out
still waits at its author, who proposes it again. What is chosen keeps its order. A transaction that several authors propose needs room once: it is executed
once, and which of its copies comes at the right moment only the execution shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, TRANSACTIONS_MAX
from fluvial.ledger.transactions import decode_payload

FRAMING: Final = 5
"""Bytes in front of a payload's list, and in front of each transaction in it, at most."""
PLACE_BYTES: Final = PAYLOAD_BYTES_MAX // TRANSACTIONS_MAX
"""What a transaction's place counts besides its bytes where authors are compared: neither many small ones nor a few large ones take more than their part."""

ORDERED_WITHIN: Final = 8
"""So many blocks may pass until a payload is ordered. A transaction that is not valid for so long is not proposed: it might have expired by then."""

SKIPPED_MAX: Final = 1_024
"""Transactions of one author that are tried in vain in one block. What was valid when it came to a correct validator may be late: anybody can give others of the
same nonces to another validator, or carry the same revocations there. Copies of what is in the block do not count."""
LIE: Final = 8
"""What no correct validator proposes counts so many times: it may have cost the verification of a signature."""


class OrderedTransaction(NamedTuple):
    """A transaction that nobody has checked.

    Attributes:
        number: its place among all that were ordered.
        author: who has proposed it.
        transaction: its bytes.
    """

    number: int
    author: int
    transaction: bytes


def chosen(payloads: Sequence[bytes], authors: Sequence[int] = (), *, first: int = 0) -> Sequence[OrderedTransaction]:
    """What comes into the block, in the order of the payloads.

    Args:
        payloads: in their order.
        authors: of each; empty if each counts as another's.
        first: the author who has the first turn, then those with higher numbers.
    """
    lots = _lots(payloads, authors or range(len(payloads)))
    turns = [(0, turn, author) for turn, author in enumerate(sorted(lots, key=lambda one: (one < first, one)))]
    room = PAYLOAD_BYTES_MAX - FRAMING
    taken: list[OrderedTransaction] = []
    different: set[bytes] = set()
    places = dict.fromkeys(lots, 0)
    while turns and len(different) < TRANSACTIONS_MAX:
        weight, turn, author = heappop(turns)
        lot, place = lots[author], places[author]
        if place == len(lot):
            continue
        one = lot[place]
        if one.transaction not in different:
            size = len(one.transaction) + FRAMING
            if size > room:
                continue  # its nonces follow each other: what comes later could not do without this one
            different.add(one.transaction)
            room -= size
            weight += size + PLACE_BYTES
        taken.append(one)
        places[author] += 1
        heappush(turns, (weight, turn, author))
    return sorted(taken)


def _lots(payloads: Sequence[bytes], authors: Sequence[int]) -> dict[int, list[OrderedTransaction]]:
    """The transactions of each author. Of nobody more is read than a block can hold: who was away can have hundreds of payloads ordered at once."""
    lots: dict[int, list[OrderedTransaction]] = {}
    read_bytes: dict[int, int] = {}
    number = 0
    for payload, author in zip(payloads, authors, strict=True):
        read_bytes[author] = read_bytes.get(author, 0) + len(payload)
        if read_bytes[author] > PAYLOAD_BYTES_MAX:
            continue
        try:
            found = decode_payload(payload)
        except RemoteProtocolError:
            continue  # of a validator that lies; the same for everybody
        lot = lots.setdefault(author, [])
        for transaction in found[: TRANSACTIONS_MAX - len(lot)]:
            lot.append(OrderedTransaction(number, author, transaction))
            number += 1
    return lots
