"""Messages come to the part that answers them, when it has started, and no more of them than it can bear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fluvial.assembly.switchboard import Switchboard
from fluvial.errors import FluvialError, PluginError, Refused, RemoteProtocolError, StorageError
from fluvial.guard.guard import PluginFailed
from fluvial.identity import KeyPair, PeerId
from fluvial.seats import Answer
from prometheus_client import CollectorRegistry

from tests.support.services import make_guard

pytestmark = pytest.mark.usefixtures("plain_logs")

ANN, BEN = (KeyPair.from_secret(bytes([seed]) * 32).peer_id for seed in (1, 2))


class Slow:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.go = anyio.Event()

    async def answer(self, sender: PeerId, payload: bytes) -> bytes:
        self.asked.append(payload)
        await self.go.wait()
        return b"slow " + payload


async def settle() -> None:
    """Let everything go on that can; nothing here waits for time or sockets."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


async def echo(sender: PeerId, payload: bytes) -> bytes:
    return payload


def board(*answers: Answer, opened: bool = True, owner: str = "extra toy", **more: Any) -> Switchboard:
    switchboard = Switchboard(guard=make_guard(), metrics=CollectorRegistry())
    switchboard.connect(answers, owner=owner, plugin="toy-plugin", **more)
    if opened:
        switchboard.open(answers)
    return switchboard


@asynccontextmanager
async def asking(switchboard: Switchboard, count: int, sender: PeerId = ANN) -> AsyncIterator[list[Any]]:
    """So many messages under way, and their answers or errors."""
    got: list[Any] = []

    async def ask(number: int) -> None:
        try:
            got.append(await switchboard.receive(sender, "/toy/1", b"%d" % number))
        except FluvialError as error:
            got.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(ask, number)
        await settle()
        yield got
        tasks.cancel_scope.cancel()


async def test_a_message_is_answered_by_the_part_of_its_protocol() -> None:
    switchboard = board(Answer(protocol="/toy/1", by=echo))
    assert await switchboard.receive(ANN, "/toy/1", b"hi") == b"hi"
    with pytest.raises(RemoteProtocolError, match="does not speak '/other/1'"):
        await switchboard.receive(ANN, "/other/1", b"hi")
    assert switchboard.protocols() == ("/toy/1",)


async def test_messages_for_a_part_that_has_not_started_wait() -> None:
    answer = Answer(protocol="/toy/1", by=echo)
    switchboard = board(answer, opened=False)
    async with asking(switchboard, 2) as got:
        assert got == []
        switchboard.open([answer])
        await settle()
        assert sorted(got) == [b"0", b"1"]


async def test_too_large_messages_are_refused_before_the_part_is_asked() -> None:
    slow = Slow()
    switchboard = board(Answer(protocol="/toy/1", by=slow.answer, bytes_max=4))
    with pytest.raises(RemoteProtocolError, match="5 bytes, 4 are allowed"):
        await switchboard.receive(ANN, "/toy/1", b"12345")
    assert slow.asked == []


async def test_one_sender_cannot_take_the_places_of_others() -> None:
    slow = Slow()
    switchboard = board(Answer(protocol="/toy/1", by=slow.answer, at_once=5, per_sender=3))
    async with asking(switchboard, 10) as anns, asking(switchboard, 10, BEN) as bens:
        assert len(slow.asked) == 5
        busy = [one for one in (*anns, *bens) if isinstance(one, Refused)]
        assert {one.reason for one in busy} == {"busy"}
        assert (len(anns), len(bens)) == (7, 8)
        slow.go.set()
        await settle()
        assert sum(isinstance(one, bytes) for one in anns) == 3
        assert sum(isinstance(one, bytes) for one in bens) == 2
    assert await switchboard.receive(ANN, "/toy/1", b"again") == b"slow again"


async def test_what_is_held_counts_like_what_is_answered() -> None:
    answer = Answer(protocol="/toy/1", by=echo, at_once=4, per_sender=4)
    async with asking(board(answer, opened=False), 10) as got:
        assert [type(one) for one in got] == [Refused] * 6


async def test_a_part_that_stops_gets_nothing_more_and_ends_what_it_has_begun() -> None:
    slow = Slow()
    answer = Answer(protocol="/toy/1", by=slow.answer)
    switchboard = board(answer)
    closed: list[bool] = []

    async def close() -> None:
        await switchboard.close([answer])
        closed.append(True)

    async with anyio.create_task_group() as tasks, asking(switchboard, 2) as before:
        tasks.start_soon(close)
        await settle()
        async with asking(switchboard, 2) as after:
            assert (len(slow.asked), closed) == (2, [])
            slow.go.set()
            await settle()
            assert sorted(before) == [b"slow 0", b"slow 1"]
            assert (after, closed) == ([], [True])


async def test_a_part_that_was_set_aside_speaks_nothing_any_more() -> None:
    answer = Answer(protocol="/toy/1", by=echo)
    switchboard = board(answer, opened=False)
    async with asking(switchboard, 1) as got:
        switchboard.disconnect([answer])
        await settle()
        assert [type(one) for one in got] == [RemoteProtocolError]
    with pytest.raises(RemoteProtocolError, match="does not speak"):
        await switchboard.receive(ANN, "/toy/1", b"")
    switchboard.connect([answer], owner="another", plugin="another")  # and others may


def test_two_parts_cannot_answer_one_protocol() -> None:
    switchboard = board(Answer(protocol="/toy/1", by=echo))
    with pytest.raises(PluginError, match="'/toy/1' is answered by extra toy and by extra rival"):
        switchboard.connect(
            [Answer(protocol="/new/1", by=echo), Answer(protocol="/toy/1", by=echo)],
            owner="extra rival",
            plugin="rival",
        )
    assert switchboard.protocols() == ("/toy/1",)
    with pytest.raises(PluginError, match="answers a protocol twice"):
        board(Answer(protocol="/a/1", by=echo), Answer(protocol="/a/1", by=echo))


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": ""},
        {"protocol": "x" * 65},
        {"protocol": "a\nb"},
        {"bytes_max": 0},
        {"per_sender": 0},
        {"at_once": -1},
    ],
)
def test_impossible_answers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PluginError):
        board(Answer(**{"protocol": "/toy/1", "by": echo, **wrong}))


async def test_what_a_part_raises_reaches_the_sender_if_it_was_meant_to() -> None:
    async def refuse(sender: PeerId, payload: bytes) -> bytes:
        raise Refused("not here", reason="tea")

    async def leak(sender: PeerId, payload: bytes) -> bytes:
        raise StorageError("secret/path.db: disk full")

    async def crash(sender: PeerId, payload: bytes) -> bytes:
        raise SystemExit("secret")

    async def hang(sender: PeerId, payload: bytes) -> bytes:
        await anyio.sleep_forever()
        return b""

    async def nonsense(sender: PeerId, payload: bytes) -> Any:
        return "text"

    switchboard = board(
        Answer(protocol="/refuse/1", by=refuse),
        Answer(protocol="/crash/1", by=crash),
        Answer(protocol="/leak/1", by=leak),
        Answer(protocol="/hang/1", by=hang, timeout_s=0.02),
        Answer(protocol="/nonsense/1", by=nonsense),
    )
    with pytest.raises(Refused, match="not here"):
        await switchboard.receive(ANN, "/refuse/1", b"")
    for protocol in ("/crash/1", "/leak/1", "/hang/1", "/nonsense/1"):
        with pytest.raises(PluginFailed) as failure:
            await switchboard.receive(ANN, protocol, b"")
        assert "secret" not in str(failure.value)
