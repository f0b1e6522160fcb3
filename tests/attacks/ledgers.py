"""Attacks on peers with a ledger, as somebody who is no validator: on the one validator that there is, and on a peer that follows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from fluvial.consensus.wire import (
    EngineMessage,
    EvidenceMessage,
    HistoryAnswer,
    HistoryAsk,
    LedgerStatus,
    SnapshotAsk,
)
from fluvial.encoding import encode
from fluvial.hosting.genesis_file import GenesisDocument, GenesisParameters, GenesisValidator, genesis_text
from fluvial.hosting.host import PROTOCOL
from fluvial.hosting.messenger import FRAME_MESSAGES_MAX
from fluvial.hosting.offer_lines import TRANSACTIONS
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.blocks import BlockHeader, LedgerBlock
from fluvial.ledger.perimeters import MEMBERS_MAX, CreatePerimeter, PerimeterMember, PerimeterTerms
from fluvial.ledger.statements import NOTARIZE, Evidence, Validator
from fluvial.ledger.transactions import Body, SignedTransaction, TransferUnits, UpdateValidators, sign_transaction

from tests.attacks.arena import Arena
from tests.attacks.questions import ask

BEGAN_MS: Final = 1_700_000_000_000
POOR: Final = 200
LARGE: Final = 4
"""Transactions of almost 64 KiB in a message."""
LARGE_TEXT: Final = "\N{GRINNING FACE}" + "a" * 64_000
"""Takes four times as much memory as its encoding."""
HISTORY_BYTES: Final = 300_000
FRAMES: Final = 4
"""Written in one go."""
Messages = Callable[[Arena], list[bytes]]


def genesis_of(validator: PeerId, *, fee: int = 0) -> GenesisDocument:
    """The ledger of one validator; whoever knows that knows its genesis."""
    parameters = GenesisParameters(fee_per_byte=fee)
    one = GenesisValidator(str(validator))
    return GenesisDocument(name="attacked", time_ms=BEGAN_MS, validators=(one,), parameters=parameters)


def ledger_seats(
    folder: Path, validator: PeerId, *, validates: bool, attack: str = ""
) -> Mapping[str, Mapping[str, Any]]:
    """What a peer's settings have besides for holding the ledger of an attack; writes its genesis into the folder."""
    file = folder / "genesis.json"
    file.write_bytes(genesis_text(genesis_of(validator, fee=int(attack in WITH_FEES))))
    ledger = {"genesis": str(file), "idle_ms": 200}
    return {"consensus": {"kind": "simplex"}, "ledger": ledger} if validates else {"ledger": {**ledger, "follow": True}}


def asks(arena: Arena) -> list[bytes]:
    """For all blocks, and for parts of snapshots."""
    return [encode(HistoryAsk(0)), encode(HistoryAsk(10**6)), encode(SnapshotAsk(0, 0, bytes(32)))]


def statuses(arena: Arena) -> list[bytes]:
    """There is much more of the ledger, in later epochs; whoever asks for it is never answered."""
    return [encode(LedgerStatus(arena.rng.randint(0, 9), arena.rng.randint(1, 10**6))) for _ in range(200)]


def votes(arena: Arena) -> list[bytes]:
    """Messages of engines, as only validators send them."""
    return [encode(EngineMessage(epoch % 3, arena.rng.randbytes(200))) for epoch in range(200)]


def half_votes(arena: Arena) -> list[bytes]:
    """The same behind something that is of use."""
    return [encode(HistoryAsk(arena.rng.randint(0, 3))), *votes(arena)]


def accusations(arena: Arena) -> list[bytes]:
    """Offences of both peers, with signatures of nobody."""
    offenders = (arena.target.peer_id.public_key, arena.other.peer_id.public_key)

    def statement() -> tuple[int, bytes, bytes]:
        return NOTARIZE, arena.rng.randbytes(32), arena.rng.randbytes(64)

    return [
        encode(EvidenceMessage(Evidence(0, slot, offenders[slot % 2], statement(), statement())))
        for slot in range(FRAME_MESSAGES_MAX)
    ]


def histories(arena: Arena) -> list[bytes]:
    """Answers that nobody has asked for, as long as they may be."""
    chain = genesis_of(arena.target.peer_id).genesis().chain
    some = arena.rng.randbytes(32)
    header = BlockHeader(
        chain=chain,
        epoch=0,
        slot=1,
        height=1,
        parent=some,
        payload=some,
        state=some,
        validators=some,
        proposer=0,
        time_ms=BEGAN_MS,
    )
    small = tuple(LedgerBlock(msgspec.structs.replace(header, height=height)) for height in range(1, 200))
    return [encode(HistoryAnswer((*small, LedgerBlock(header, bytes(HISTORY_BYTES))), None, 10**6))] * 3


def _frames(arena: Arena, keys: KeyPair, *, make: Messages) -> Iterator[bytes]:
    frames = [encode(make(arena)) for _ in range(3)]
    while True:
        yield from frames


def poor_transactions(arena: Arena, keys: KeyPair, *, validator: Callable[[Arena], PeerId]) -> Iterator[bytes]:
    """Well signed transfers of who has nothing, of ever the same and of ever other keys."""
    chain = genesis_of(validator(arena)).genesis().chain
    while True:
        yield encode(
            [
                sign_transaction(
                    keys if number % 2 else arena.stranger(), chain, number, TransferUnits(keys.public_key, number + 1)
                )
                for number in range(POOR)
            ]
        )


def large_transactions(arena: Arena, keys: KeyPair, *, validator: Callable[[Arena], PeerId]) -> Iterator[bytes]:
    """As large as they may be and of ever other senders, none of whom can pay; each takes much more memory than its bytes, and none is signed."""
    chain = genesis_of(validator(arena), fee=1).genesis().chain
    members = tuple(PerimeterMember(chr(1_000 + one) * 20, chr(1_000 + one) * 20) for one in range(MEMBERS_MAX))
    bodies: tuple[Body, ...] = (
        CreatePerimeter(PerimeterTerms(members, bytes(32), (keys.public_key,))),
        UpdateValidators(remove=(LARGE_TEXT,)),
        UpdateValidators(add=(Validator(LARGE_TEXT),)),
    )
    while True:
        yield encode(
            [
                encode(
                    SignedTransaction(
                        chain,
                        arena.rng.randbytes(32),
                        0,
                        2**53,
                        2**60,
                        bodies[number % len(bodies)],
                        arena.rng.randbytes(64),
                    )
                )
                for number in range(LARGE)
            ]
        )


def _attacks(role: str) -> Mapping[str, Callable[[Arena], Awaitable[None]]]:
    frames = {
        f"{role}-{make.__name__}".replace("_", "-"): partial(
            ask, protocol=PROTOCOL, payloads=partial(_frames, make=make), together=FRAMES
        )
        for make in (asks, statuses, votes, half_votes, accusations, histories)
    }
    validator: Callable[[Arena], PeerId] = (
        (lambda arena: arena.target.peer_id) if role == "validator" else (lambda arena: arena.other.peer_id)
    )
    poor = partial(
        ask, protocol=TRANSACTIONS, payloads=partial(poor_transactions, validator=validator), together=FRAMES
    )
    large = partial(
        ask, protocol=TRANSACTIONS, payloads=partial(large_transactions, validator=validator), together=FRAMES
    )
    return {**frames, f"{role}-transactions": poor, f"{role}-large-transactions": large}


ON_VALIDATORS: Final = _attacks("validator")
ON_FOLLOWERS: Final = _attacks("follower")
LEDGERS: Final = {**ON_VALIDATORS, **ON_FOLLOWERS}
"""By name."""
WITH_FEES: Final = frozenset({"validator-large-transactions", "follower-large-transactions"})
"""Attacks on a ledger where transactions cost something."""
