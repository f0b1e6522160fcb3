"""A follower hands its transactions to validators, of which some hang, lie or are away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
import structlog
from fluvial.encoding import decode, encode
from fluvial.errors import Refused, Unreachable
from fluvial.hosting.handing_over import PATIENCE_S, QUIET_MAX, HandingOver
from fluvial.hosting.messenger import FRAME_BYTES
from fluvial.hosting.offer_lines import ANSWER_S, WAITING_BYTES_MAX, OfferLines
from fluvial.identity import PeerId
from fluvial.ledger.statements import Validator, ValidatorSet
from fluvial.testing.nodes import keys_of
from fluvial.virtual.loop import BACKEND

NAMES = ("ada", "bob", "cyd", "dan")
PEERS = [keys_of(name).peer_id for name in NAMES]
VALIDATORS = ValidatorSet(Validator(str(peer)) for peer in PEERS)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Answering:
    """Validators that say something to a transaction after a while; None if they never do."""

    def __init__(self, says: Mapping[str, str | None]) -> None:
        self._says = dict(zip(PEERS, (says.get(name, "") for name in NAMES), strict=True))
        self.asked: list[str] = []

    async def request(self, to: PeerId, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        self.asked.append(NAMES[PEERS.index(to)])
        says = self._says[to]
        await anyio.sleep(0.01 if says is not None else timeout_s)
        if says in (None, "away"):
            raise Unreachable("no answer")
        return encode([says] * len(decode(payload, list[bytes], what="transactions")))


async def handed_over(says: Mapping[str, str | None], validators: ValidatorSet = VALIDATORS) -> tuple[list[str], float]:
    """Who was asked, and how long it took."""
    peers: Any = Answering(says)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        try:
            handing = HandingOver(OfferLines(peers, tasks, structlog.get_logger()), validators)
            await handing.run(b"transaction", PEERS[: len(validators)])
        except Refused as error:
            refused = error
        else:
            refused = None
        took_s = anyio.current_time() - began
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return peers.asked, took_s


async def test_so_many_have_it_that_one_of_them_is_correct() -> None:
    assert await handed_over({}) == (["ada", "bob"], pytest.approx(0.01))
    few = ValidatorSet(VALIDATORS.members[:3])
    assert await handed_over({}, few) == (["ada"], pytest.approx(0.01))
    heavy = ValidatorSet([Validator(str(PEERS[0]), 9), *VALIDATORS.members[1:]])
    assert (await handed_over({}, heavy))[0] == ["ada"], "it has more power than may lie"


async def test_one_that_hangs_keeps_nobody_waiting() -> None:
    asked, took_s = await handed_over({"ada": None})
    assert asked == ["ada", "bob", "cyd"]
    assert took_s <= PATIENCE_S + 0.1


async def test_where_one_alone_can_be_reached_it_is_enough() -> None:
    for says in (None, "away"):
        asked, took_s = await handed_over({"bob": says, "cyd": says, "dan": says})
        assert asked[0] == "ada"
        assert took_s <= QUIET_MAX * PATIENCE_S + 0.1


async def test_one_that_is_away_or_lies_is_replaced_by_another() -> None:
    for says in ("away", "a lie"):
        asked, took_s = await handed_over({"bob": says})
        assert asked == ["ada", "bob", "cyd"]
        assert took_s < 0.1


async def test_what_more_say_than_may_lie_is_believed() -> None:
    with pytest.raises(Refused, match="not take this transaction: nonce"):
        await handed_over({"ada": "nonce", "bob": "nonce"})
    with pytest.raises(Refused, match="not take this transaction: nonce"):
        await handed_over({"ada": "nonce", "bob": None, "cyd": "away", "dan": "away"})
    # One had it before the others, who have it in a block by now.
    await handed_over({"bob": "nonce", "cyd": "nonce", "dan": "nonce"})


async def test_nobody_is_there() -> None:
    began = anyio.current_time()
    with pytest.raises(Refused, match="no validator can be reached"):
        await handed_over(dict.fromkeys(NAMES, "away"))
    assert anyio.current_time() - began < 0.1
    with pytest.raises(Refused, match="no validator can be reached"):
        await handed_over(dict.fromkeys(NAMES))
    assert anyio.current_time() - began < ANSWER_S + 3 * PATIENCE_S


async def test_many_go_to_each_validator_in_one_message_after_the_other() -> None:
    peers: Any = Answering({})
    async with anyio.create_task_group() as tasks:
        lines = OfferLines(peers, tasks, structlog.get_logger())
        async with anyio.create_task_group() as handing:
            for number in range(300):
                one = HandingOver(lines, VALIDATORS)
                handing.start_soon(one.run, number.to_bytes(4, "big"), PEERS)
    assert sorted(peers.asked) == ["ada"] * 2 + ["bob"] * 2


async def test_of_too_many_that_wait_one_more_is_refused() -> None:
    peers: Any = Answering(dict.fromkeys(NAMES))
    async with anyio.create_task_group() as tasks:
        lines = OfferLines(peers, tasks, structlog.get_logger())
        large = bytes(60_000)
        for _ in range(WAITING_BYTES_MAX // len(large)):
            tasks.start_soon(HandingOver(lines, VALIDATORS).run, large, PEERS)
        await anyio.sleep(4 * PATIENCE_S)
        for _ in range(FRAME_BYTES // len(large) + 1):  # as many are on their way
            tasks.start_soon(HandingOver(lines, VALIDATORS).run, large, PEERS)
        await anyio.sleep(4 * PATIENCE_S)
        with pytest.raises(Refused, match="too many transactions are on their way") as refused:
            await HandingOver(lines, VALIDATORS).run(large, PEERS)
        assert refused.value.reason == "busy"
        tasks.cancel_scope.cancel()
