"""``run-console``: scripts that write to a peer's log."""

from __future__ import annotations

from typing import Any, Final

import structlog

from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.identity import PeerId
from fluvial.services.builtin.objects import text_of
from fluvial.services.builtin.op import NOTHING
from fluvial.services.status import shortened
from fluvial.services.values import beginning

PRINTED_CHARACTERS_MAX: Final = 2_000


class Console(Effector[NoConfig]):
    """Prints into the peer's log.

    Args:
        peer: this peer.
        log: its logger.
    """

    service_id = "run-console"

    def __init__(self, *, peer: PeerId, log: structlog.stdlib.BoundLogger) -> None:
        super().__init__()
        self._peer = peer
        self._log = log

    @function(inline=True)
    def print(self, call: Call, *values: Any) -> str:
        """Writes its arguments as JSON into the log: at level info for this peer's own particles, at debug for those of others.

        At most 2,000 characters are kept.
        """
        # Deviation: the reference node refuses the particles of others; we keep them out of the usual log instead.
        write = self._log.info if call.initiator == self._peer else self._log.debug
        text = shortened(text_of(beginning(values, PRINTED_CHARACTERS_MAX))[1:-1], PRINTED_CHARACTERS_MAX)
        write("run_console", text=text, particle=call.particle_id, initiator=call.initiator)
        return NOTHING
