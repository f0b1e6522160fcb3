"""Where a session's encoding and signing is done: on the loop where it takes little time, else in a worker thread.

What is handed to a peer is found in all that the machine knows, and so is what is signed for others. Else a commit has to do only with what
is new since the one before. So a flow whose calls all stay on this peer costs as much for each step after thousands of them as at its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from fluvial.particles.processor import Processor
from fluvial.particles.session import ParticleSession

ResultT = TypeVar("ResultT")

STEPS_ON_LOOP: Final = 2_000
"""Steps of a machine so far, or since the last commit, for which work is done on the loop: it takes a time that grows with them."""
BYTES_HELD_ON_LOOP: Final = 1_048_576
"""Memory of which the same is true."""


class Workplace:
    """See the module's docstring.

    Args:
        session: the particle's; nothing was done with it yet.
        processor: has the thread.
    """

    __slots__ = ("_held", "_processor", "_session", "_steps", "_then")

    def __init__(self, session: ParticleSession, processor: Processor) -> None:
        self._session = session
        self._processor = processor
        self._steps = self._held = 0
        self._then = 0, 0

    @property
    def machine_is_small(self) -> bool:
        """Whether the machine has done and holds little."""
        return self._session.steps <= STEPS_ON_LOOP and self._session.held <= BYTES_HELD_ON_LOOP

    def commit_is_small(self) -> bool:
        """Whether a commit that begins now has to do with little."""
        session = self._session
        steps, held = self._then = session.steps, session.held
        if steps <= STEPS_ON_LOOP and held <= BYTES_HELD_ON_LOOP:
            return True
        # Where the memory was counted again and is less nobody knows how much came.
        more_steps, more_held = steps - self._steps, held - self._held
        return not session.leaves and 0 <= more_steps <= STEPS_ON_LOOP and 0 <= more_held <= BYTES_HELD_ON_LOOP

    def committed(self) -> None:
        """The commit has come to its end: what was done before it is not new any more."""
        self._steps, self._held = self._then

    async def off_loop(self, work: Callable[[], ResultT]) -> ResultT:
        """The result of work that is not small; raises as it does. Whoever may be cancelled shields it: nobody else may use the session before it has ended."""
        return await self._processor.off_loop(self._session.particle.initiator, work, upstream=self._session.upstream)
