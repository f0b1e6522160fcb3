"""What takes longer the more a flow has done goes to a thread, and nothing else of a large flow does."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from fluvial.air.machine.outcomes import Answered
from fluvial.particles.processor import Processor
from fluvial.particles.workplace import BYTES_HELD_ON_LOOP, Workplace
from prometheus_client import CollectorRegistry

from tests.core.particles.test_session import Peer, particle
from tests.support.nodes import id_of

SCRIPT = f"""
    (seq (call %init_peer_id% ("some" "small") [] one)
         (seq (call %init_peer_id% ("some" "large") [one] two)
              (seq (call %init_peer_id% ("some" "small") [] three)
                   (seq (call %init_peer_id% ("some" "small") [three] four)
                        (call "{id_of("b")}" ("some" "small") [two] five)))))"""


class Flow:
    """A flow on the peer that began it."""

    def __init__(self) -> None:
        self.peer = Peer.of("a", particle(SCRIPT))
        self.place = Workplace(self.peer.session, processor())
        self._effects = self.peer.session.begin()

    def commit(self) -> bool:
        """Whether that was small."""
        small = self.place.commit_is_small()
        self.peer.write()
        self.place.committed()
        return small

    def answer(self, answer: Any) -> bool:
        """Answer the call that waits; whether the commit of what follows is small."""
        (request,) = self._effects.requests
        self._effects = self.peer.session.resolve({request.instance: Answered(answer)})
        return self.commit()


def processor() -> Processor:
    return Processor(weight=lambda _: 0, metrics=CollectorRegistry())


async def test_a_commit_of_a_large_flow_is_small_where_little_is_new_and_nothing_leaves() -> None:
    flow = Flow()
    assert flow.commit()
    assert flow.answer(1)
    assert not flow.answer("x" * 2 * BYTES_HELD_ON_LOOP), "what is new is large"
    assert not flow.place.machine_is_small
    assert flow.answer(3)
    assert not flow.answer(4), "what leaves is found in all that there is"


async def test_a_restored_flow_is_new_as_a_whole() -> None:
    flow = Flow()
    flow.commit()
    flow.answer(1)
    flow.answer("x" * 2 * BYTES_HELD_ON_LOOP)
    assert not Workplace(flow.peer.restored(), processor()).commit_is_small()


async def test_what_is_not_small_is_done_in_a_thread() -> None:
    shared, loop = processor(), threading.current_thread()
    place = Workplace(Peer.of("a", particle(SCRIPT)).session, shared)
    async with anyio.create_task_group() as tasks:
        shared.start(tasks)
        assert await place.off_loop(threading.current_thread) is not loop
        tasks.cancel_scope.cancel()
