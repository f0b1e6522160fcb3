"""Answers health requests (``health.py``) of this peer's owner, and of nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fluvial import __version__
from fluvial.clock import Clock
from fluvial.findings import Finding
from fluvial.health import PROTOCOL, QUESTION_BYTES_MAX, check_question, make_report
from fluvial.identity import PeerId
from fluvial.seats import Answer, Contributions, Part

AT_ONCE: Final = 4
PER_SENDER: Final = 1


class HealthDesk(Part):
    """See the module's docstring.

    Args:
        me: this peer.
        network: its network's name.
        clock: tells the time.
        connected: the peers with which a connection stands.
        findings: the health of the parts.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        network: str,
        clock: Clock,
        connected: Callable[[], Iterable[PeerId]],
        findings: Callable[[], Iterable[Finding]],
    ) -> None:
        self._me = me
        self._network = network
        self._clock = clock
        self._connected = connected
        self._findings = findings

    def contributions(self) -> Contributions:
        """The protocol ``health``."""
        answer = Answer(
            protocol=PROTOCOL,
            by=self._answer,
            bytes_max=QUESTION_BYTES_MAX,
            at_once=AT_ONCE,
            per_sender=PER_SENDER,
        )
        return Contributions(answers=(answer,))

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        check_question(payload, me=self._me, sender=sender, network=self._network, now_ms=self._clock.now_ms())
        return make_report(version=__version__, connected=self._connected(), findings=self._findings())
