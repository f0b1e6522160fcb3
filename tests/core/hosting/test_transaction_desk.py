"""Who brings transactions to a validator: what is of no use is charged to the sender, and nothing is passed on twice."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fluvial.effectors import EffectorError
from fluvial.encoding import decode, encode
from fluvial.errors import Refused
from fluvial.hosting.services import LedgerService
from fluvial.hosting.transaction_desk import YIELD_EVERY, TransactionDesk
from fluvial.ledger import pool as pool_module
from fluvial.ledger.genesis import Genesis, Parameters
from fluvial.ledger.pool import PER_SENDER_MAX, TransactionPool
from fluvial.ledger.statements import NOTARIZE, NOTHING, Evidence, Validator, ValidatorSet, signed_bytes
from fluvial.ledger.transactions import TRANSACTION_BYTES_MAX, TransferUnits, report, sign_transaction
from fluvial.seats import RefusingAnswer
from fluvial.testing.nodes import keys_of

ME, OTHER, RICH, POOR = (keys_of(name) for name in ("me", "other", "rich", "poor"))
EVE = keys_of("eve").peer_id
GENESIS = Genesis(
    name="desk",
    time_ms=0,
    validators=(Validator(str(ME.peer_id)), Validator(str(OTHER.peer_id))),
    balances=((RICH.public_key, 10**12),),
    parameters=Parameters(fee_per_byte=1),
)
STATE = GENESIS.state()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Told:
    """What the other validators are told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def post(self, to: object, protocol: str, payload: bytes) -> bool:
        self.frames.append(payload)
        return True


def transfer(nonce: int = 0, *, rich: bool = True) -> bytes:
    return sign_transaction(
        RICH if rich else POOR, GENESIS.chain, nonce, TransferUnits(POOR.public_key, nonce + 1), fee_max=10**6
    )


def evidence() -> bytes:
    one, other = (
        (NOTARIZE, digest, OTHER.sign(signed_bytes(GENESIS.chain, NOTARIZE, 0, 5, digest)))
        for digest in (NOTHING, b"\1" * 32)
    )
    return report(Evidence(0, 5, OTHER.public_key, one, other))


class Desk:
    """A desk of a validator with one other."""

    def __init__(self, tasks: Any) -> None:
        self.pool, self.told = TransactionPool(GENESIS.chain), Told()
        replica: Any = SimpleNamespace(decides=True, pool=self.pool, validators=ValidatorSet(GENESIS.validators))
        context: Any = SimpleNamespace(keys=ME, peers=self.told, rng=None, log=None)
        self._desk = TransactionDesk(
            context, gossips=True, running=lambda: replica, take=lambda one: self.pool.add(one, STATE, 1)
        )
        self._desk.open(tasks)

    async def bring(self, *transactions: bytes, sender: Any = EVE) -> tuple[bool, list[str]]:
        """Whether the answer is charged, and the reasons."""
        answer = await self._desk.answer(sender, encode(list(transactions)))
        await anyio.lowlevel.checkpoint()
        return isinstance(answer, RefusingAnswer), decode(answer, list[str], what="reasons")


async def test_what_is_refused_for_good_is_charged_to_its_sender() -> None:
    async with anyio.create_task_group() as tasks:
        desk = Desk(tasks)
        charged, reasons = await desk.bring(transfer(rich=False), transfer(1, rich=False))
        assert charged
        assert all(reasons)
        assert (await desk.bring(b""))[0]
        assert (await desk.bring())[0]
        assert await desk.bring(transfer()) == (False, [""])
        charged, _ = await desk.bring(transfer(1), *(transfer(number, rich=False) for number in range(9)))
        assert charged, "one that is good does not make up for many"
        assert not (await desk.bring(transfer(2), transfer(rich=False)))[0]
        assert not (await desk.bring(transfer(rich=False), sender=OTHER.peer_id))[0], (
            "validators pass on what they have"
        )


async def test_who_comes_when_there_is_no_room_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with anyio.create_task_group() as tasks:
        desk = Desk(tasks)
        for number in range(PER_SENDER_MAX):
            await desk.bring(transfer(number))
        charged, reasons = await desk.bring(transfer(PER_SENDER_MAX))
        assert not charged
        assert "too many" in reasons[0]
    monkeypatch.setattr(pool_module, "WAITING_MAX", 0)
    async with anyio.create_task_group() as tasks:
        charged, reasons = await Desk(tasks).bring(transfer())
        assert not charged
        assert "too many" in reasons[0]


async def test_what_waits_already_is_answered_but_neither_passed_on_nor_of_use() -> None:
    async with anyio.create_task_group() as tasks:
        desk = Desk(tasks)
        for one in (transfer(), evidence()):
            assert await desk.bring(one) == (False, [""])
            before = len(desk.told.frames)
            assert before
            assert await desk.bring(bytes(bytearray(one))) == (True, [""])
            assert len(desk.told.frames) == before
        assert len(desk.pool) == 2


async def test_a_text_that_is_too_long_for_a_transaction_is_not_decoded() -> None:
    taken: list[bytes] = []

    class Holder:
        async def submit(self, transaction: bytes) -> None:
            taken.append(transaction)

    holder: Any = Holder()
    longest = base64.b64encode(bytes(TRANSACTION_BYTES_MAX)).decode()
    await LedgerService(holder).submit(longest)
    with pytest.raises(EffectorError, match="a transaction has at most 65,536 bytes"):
        await LedgerService(holder).submit(longest + "not base64")
    assert taken == [bytes(TRANSACTION_BYTES_MAX)]


class Counting:
    """A desk that counts the transactions that it looks at, none of which it takes."""

    def __init__(self) -> None:
        self.looked_at = 0
        replica: Any = SimpleNamespace(
            decides=True, pool=TransactionPool(GENESIS.chain), validators=ValidatorSet(GENESIS.validators)
        )
        context: Any = SimpleNamespace(keys=ME, peers=None, rng=None, log=None)
        self.desk = TransactionDesk(context, gossips=True, running=lambda: replica, take=self._refuse)

    def _refuse(self, transaction: bytes) -> None:
        self.looked_at += 1
        raise Refused("no", reason="transaction")


async def test_who_brings_one_transaction_does_not_wait_for_those_who_bring_many() -> None:
    counting = Counting()
    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(counting.desk.answer, keys_of(f"stranger {number}").peer_id, encode([b"x"] * 256))
        while counting.looked_at < 60 * YIELD_EVERY * 2:  # each has had its first turn
            await anyio.lowlevel.checkpoint()
        for sender in (EVE, OTHER.peer_id):
            before = counting.looked_at
            await counting.desk.answer(sender, encode([b"y"]))
            assert counting.looked_at - before <= 4 * YIELD_EVERY
        tasks.cancel_scope.cancel()


async def test_who_goes_away_leaves_its_turn_to_the_others() -> None:
    counting = Counting()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(counting.desk.answer, EVE, encode([b"x"] * 100))
        await anyio.lowlevel.checkpoint()
        for number in range(20):
            with anyio.move_on_after(0):
                await counting.desk.answer(keys_of(f"stranger {number}").peer_id, encode([b"x"]))
            tasks.start_soon(counting.desk.answer, keys_of(f"stranger {number}").peer_id, encode([b"x"]))
    assert 120 <= counting.looked_at <= 140
