"""Messages for peers that do not read: all strangers share a bound, and whoever has not read for longest gives way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fluvial.consensus.wire import EngineMessage, HistoryAnswer, HistoryAsk, SnapshotAnswer
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.hosting import messenger as messenger_module
from fluvial.hosting.messenger import (
    FRAME_BYTES_MAX,
    FRAME_MESSAGES_MAX,
    STRANGERS_MESSAGES_MAX,
    Messenger,
    looked_at,
    messages_of,
)
from fluvial.identity import PeerId
from fluvial.ledger.blocks import TRANSACTIONS_MAX
from fluvial.ledger.transactions import decode_payload
from fluvial.testing.nodes import keys_of
from fluvial.virtual.loop import BACKEND

VALIDATOR = keys_of("validator").peer_id
STRANGERS = [keys_of(f"stranger {number}").peer_id for number in range(20)]
MOST = 10_000
ANSWER = bytes(1_000)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Deaf:
    """Peers that read nothing until they are told to."""

    def __init__(self) -> None:
        self.held: dict[PeerId, int] = {}
        self.got: list[PeerId] = []
        self.reads: set[PeerId] = set()

    def post(self, to: PeerId, protocol: str, payload: bytes) -> bool:
        return False

    async def send(self, to: PeerId, protocol: str, payload: bytes) -> None:
        self.held[to] = len(payload)
        try:
            while to not in self.reads:  # noqa: ASYNC110 - they never say that they read again
                await anyio.sleep(1)
            self.got.append(to)
        finally:
            del self.held[to]

    def held_by(self, peers: list[PeerId]) -> int:
        return sum(self.held.get(one, 0) for one in peers)


def messenger_of(peers: Any, tasks: Any) -> Messenger:
    return Messenger(peers, "/test/1", tasks, peers_max=100, known=lambda one: one == VALIDATOR)


async def test_strangers_that_do_not_read_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger_module, "STRANGERS_BYTES_MAX", MOST)
    peers = Deaf()
    async with anyio.create_task_group() as tasks:
        messenger = messenger_of(peers, tasks)
        messenger.send(VALIDATOR, bytes(2 * MOST))
        for one in STRANGERS:
            messenger.send(one, ANSWER)
            await anyio.sleep(0.1)
            assert peers.held_by(STRANGERS) <= MOST + 10 * len(STRANGERS)
        assert list(peers.held) == [VALIDATOR, *STRANGERS[10:]], "the first ones have given way"
        assert messenger.is_idle(STRANGERS[0])
        assert not messenger.is_idle(STRANGERS[-1]), "what is being sent is not read yet"
        peers.reads.update(STRANGERS)
        await anyio.sleep(2)
        assert sorted(peers.got) == sorted(STRANGERS[10:])
        for one in STRANGERS[:10]:  # nothing of what has gone is still counted
            messenger.send(one, ANSWER)
        await anyio.sleep(2)
        assert len(peers.got) == len(STRANGERS)
        tasks.cancel_scope.cancel()


async def test_nobody_says_too_much_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger_module, "STRANGERS_BYTES_MAX", MOST)
    peers = Deaf()
    async with anyio.create_task_group() as tasks:
        messenger = messenger_of(peers, tasks)
        for one in STRANGERS:
            messenger.send(one, ANSWER)
        await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.1)
        assert peers.held_by(STRANGERS) <= MOST + 10 * len(STRANGERS)
        assert len(peers.held) == MOST // len(ANSWER)
        tasks.cancel_scope.cancel()


async def test_strangers_that_do_not_read_take_no_places_of_validators() -> None:
    peers = Deaf()
    peers.reads.add(VALIDATOR)
    async with anyio.create_task_group() as tasks:
        messenger = Messenger(peers, "/test/1", tasks, peers_max=10, known=lambda one: one == VALIDATOR)  # type: ignore[arg-type]
        for one in STRANGERS:
            messenger.send(one, ANSWER)
        await anyio.sleep(0.1)
        messenger.send(VALIDATOR, ANSWER)
        await anyio.sleep(0.1)
        assert len(peers.held) == 10
        assert VALIDATOR in peers.got
        tasks.cancel_scope.cancel()


async def test_a_peer_that_becomes_a_validator_has_its_own_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger_module, "STRANGERS_BYTES_MAX", MOST)
    peers, validators = Deaf(), {VALIDATOR}
    async with anyio.create_task_group() as tasks:
        messenger = Messenger(peers, "/test/1", tasks, peers_max=100, known=lambda one: one in validators)  # type: ignore[arg-type]
        new = STRANGERS[0]
        peers.reads.add(new)
        messenger.send(new, ANSWER)
        await anyio.sleep(2)
        validators.add(new)
        peers.reads.clear()
        messenger.send(new, bytes(2 * MOST))
        await anyio.sleep(0.1)
        messenger.send(STRANGERS[1], ANSWER)
        await anyio.sleep(0.1)
        assert set(peers.held) == {new, STRANGERS[1]}
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("read", "most", "size"),
    [(messages_of, FRAME_MESSAGES_MAX, FRAME_BYTES_MAX), (decode_payload, TRANSACTIONS_MAX, 1 << 20)],
)
def test_a_frame_of_too_many_items_is_refused_before_they_are_made(
    read: Callable[[bytes], Sequence[bytes]], most: int, size: int
) -> None:
    assert len(read(encode([b""] * most))) == most
    crowd = encode([b"x"] * (size // 3 - 5))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            read(crowd)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 10


def test_of_a_frame_one_answer_of_each_kind_is_looked_at_and_of_strangers_what_they_were_asked() -> None:
    history, part = encode(HistoryAnswer((), None, 1)), encode(SnapshotAnswer(()))
    ask, vote = encode(HistoryAsk(0)), encode(EngineMessage(0, b""))
    frame = [history, part, ask, history, vote, part, vote]
    nothing: frozenset[bytes] = frozenset()
    assert looked_at(frame, known=True, asked=nothing) == [history, part, ask, vote, vote]
    assert looked_at(frame, known=False, asked=nothing) == [ask]
    assert looked_at(frame, known=False, asked=frozenset({b"history"})) == [history, ask]
    assert looked_at([ask] * 100, known=False, asked=nothing) == [ask] * STRANGERS_MESSAGES_MAX
