"""Values that are heavy: they are weighed before anything is done with all of them, and are worked with in turn."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.effectors import Effector, NoConfig, function
from fluvial.fairness import equal
from fluvial.particles.processor import Processor
from prometheus_client import CollectorRegistry

from tests.support.nodes import Peer, id_of, peer, until

HELD = "fluvial_particles_memory_bytes"
LIMITS = {"memory_bytes_max": 4_000_000}


class Ear(Effector[NoConfig]):
    """Hears what flows have to say, and answers with what is large."""

    service_id = "ear"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.asked = 0

    @function
    async def hear(self, *values: Any) -> None:
        """Keeps it."""
        self.heard.append(values)

    @function
    async def large(self) -> list[list[int]]:
        """A value that takes a third of a megabyte."""
        self.asked += 1
        return [[number] for number in range(3_000)]

    @function
    async def fields(self) -> dict[str, int]:
        """An object of more than half as many fields as a value may have."""
        return dict.fromkeys(map(str, range(60_000)), 0)


class Mirror(Effector[NoConfig]):
    """Uses nothing but its arguments, but for what the test looks at."""

    service_id = "mirror"
    pure = True

    @function(inline=True)
    def where(self, text: str) -> str:
        """Where it runs."""
        return _place()


def _place() -> str:
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


class Letter(msgspec.Struct):
    """An argument that notes where it is read."""

    text: str
    read_in: str = ""

    def __post_init__(self) -> None:
        """Note it."""
        self.read_in = _place()


class Post(Effector[NoConfig]):
    """Reads letters, and uses more than that."""

    service_id = "post"

    @function(inline=True)
    def now(self, letter: Letter) -> list[str]:
        """Where the letter is read, and where this runs."""
        return [letter.read_in, _place()]

    @function
    async def later(self, letter: Letter) -> list[str]:
        """The same."""
        return [letter.read_in, _place()]


def doubled(at: Peer, doublings: int, body: str) -> str:
    """``body`` with a text in ``s`` of 64 characters, doubled so often."""
    here = at.peer_id
    steps = [f'(ap "{"x" * 64}" s0)']
    steps += [
        f'(call "{here}" ("op" "concat_strings") [s{step} s{step}] s{step + 1 if step < doublings - 1 else ""})'
        for step in range(doublings)
    ]
    for step in reversed(steps):
        body = f"(seq {step} {body})"
    return body


async def said(to: Peer, ear: Ear, script: str) -> Any:
    """What a flow that runs at a peer has to say."""
    await to.node.submit(to.node.particle(script, ttl_ms=60_000))
    await until(lambda: bool(ear.heard))
    return ear.heard.pop()


@pytest.mark.parametrize(
    "function_", ['"op" "array"', '"op" "concat_strings"', '"op" "noop"', '"debug" "stringify"', '"ear" "hear"']
)
async def test_one_text_a_thousand_times_is_too_much_for_a_call(tmp_path: Path, function_: str) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear], particles=LIMITS) as a:
        call = f'(call "{a.peer_id}" ({function_}) [{"s " * 1_000}])'
        body = f'(xor {call} (call "{a.peer_id}" ("ear" "hear") [:error:.$.message]))'
        [message] = await said(a, ear, doubled(a, 12, body))
        assert "the arguments take more than 2,000,000 bytes of memory together" in message
        assert a.metric(HELD) < LIMITS["memory_bytes_max"]


async def test_a_heavy_argument_that_is_not_too_much_is_worked_with(tmp_path: Path) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear], particles=LIMITS) as a:
        here = a.peer_id
        body = f"""
            (seq (call "{here}" ("op" "array") [s s] two)
                 (seq (call "{here}" ("op" "array_length") [two] n)
                      (call "{here}" ("ear" "hear") [n two.$.[1]])))"""
        number, text = await said(a, ear, doubled(a, 13, body))
        assert (number, text) == (2, "x" * 64 * 2**13)


@pytest.mark.parametrize(("doublings", "where"), [(2, "loop"), (13, "thread")])
async def test_a_pure_function_with_heavy_arguments_runs_in_a_thread(
    tmp_path: Path, doublings: int, where: str
) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear, Mirror()], particles=LIMITS) as a:
        here = a.peer_id
        body = f'(seq (call "{here}" ("mirror" "where") [s] w) (call "{here}" ("ear" "hear") [w]))'
        assert await said(a, ear, doubled(a, doublings, body)) == (where,)


@pytest.mark.parametrize("function_", ["now", "later"])
@pytest.mark.parametrize(("doublings", "where"), [(2, "loop"), (13, "thread")])
async def test_heavy_arguments_are_read_in_a_thread_whatever_the_function_does(
    tmp_path: Path, doublings: int, where: str, function_: str
) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear, Post()], particles=LIMITS) as a:
        here = a.peer_id
        body = f"""
            (seq (call "{here}" ("json" "obj") ["text" s] letter)
                 (seq (call "{here}" ("post" "{function_}") [letter] w) (call "{here}" ("ear" "hear") [w])))"""
        assert await said(a, ear, doubled(a, doublings, body)) == ([where, "loop"],)


async def test_an_argument_has_a_bounded_number_of_fields(tmp_path: Path) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear]) as a:
        here = a.peer_id
        body = f"""
            (seq (seq (call "{here}" ("ear" "fields") [] $parts) (call "{here}" ("ear" "fields") [] $parts))
                 (seq (canon "{here}" $parts #parts)
                      (xor (call "{here}" ("op" "array_length") [#parts])
                           (call "{here}" ("ear" "hear") [:error:.$.message]))))"""
        [message] = await said(a, ear, body)
        assert "more than 100,000 fields" in message


async def test_equal_large_results_are_in_memory_once(tmp_path: Path) -> None:
    ear = Ear()
    async with peer("a", tmp_path, serves=[ear], particles=LIMITS) as a:
        here = a.peer_id
        calls = "(null)"
        for number in range(30):
            calls = f'(seq (call "{here}" ("ear" "large") [] v{number}) {calls})'
        first = f'(call "{here}" ("ear" "hear") [v3.$.[7] v29.length])'
        assert await said(a, ear, f"(seq {calls} {first})") == ([7], 3_000)
        assert ear.asked == 30, "each was asked for"


async def test_heavy_flows_are_the_same_after_a_restart(tmp_path: Path) -> None:
    ear = Ear()
    here = id_of("a")
    inner = f'(seq (call "{here}" ("peer" "timeout") [500]) (call "{here}" ("ear" "hear") [v.length w.$.[2999]]))'
    script = f'(seq (call "{here}" ("ear" "large") [] v) (seq (call "{here}" ("op" "identity") [v] w) {inner}))'
    async with peer("a", tmp_path, serves=[ear], particles=LIMITS) as a:
        await a.node.submit(a.node.particle(script, ttl_ms=60_000))
        await until(lambda: bool(a.events("call_done") and a.events("call_done")[-1]["function"] == "identity"))
    async with peer("a", tmp_path, serves=[ear], particles=LIMITS) as a:
        await until(lambda: bool(ear.heard))
        assert ear.heard == [(3_000, [2_999])]
        assert ear.asked == 1


async def test_after_a_long_turn_everything_else_has_as_much_time() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    ended: list[str] = []

    def long() -> str:
        until_s = anyio.current_time() + 0.05
        while anyio.current_time() < until_s:
            pass
        ended.append("turn")
        return "done"

    async def take(number: int) -> None:
        assert await processor.in_turn(id_of(f"stranger {number}"), long) == "done"

    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        async with anyio.create_task_group() as turns:
            for number in range(4):
                turns.start_soon(take, number)
            for _ in range(40):
                await anyio.sleep(0.001)
                ended.append("else")
        tasks.cancel_scope.cancel()
    first, last = ended.index("turn"), len(ended) - 1 - ended[::-1].index("turn")
    assert ended[first:last].count("else") > 6, "others have gone on between the turns, and more than once for each"


async def test_errors_of_a_turn_are_those_of_its_work() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())

    def fail() -> None:
        raise ValueError("it fails")

    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        with pytest.raises(ValueError, match="it fails"):
            await processor.in_turn(id_of("a"), fail)
        assert await processor.in_turn(id_of("a"), lambda: None) is None
        tasks.cancel_scope.cancel()
