"""How fast parts of snapshots are handed out: all peers together, and each by itself. Who asks too fast is answered later, not refused: it would ask somebody else."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

PEERS_MAX: Final = 1_024
WAIT_MAX_S: Final = 1.5
"""Who would have to wait for longer gets no answer."""


class PacedAnswers:
    """See the module's docstring.

    Args:
        bytes_per_s: of all together; a single peer gets a quarter of it.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._rate: Final = bytes_per_s
        self._all_free_at = 0.0
        self._free_at: OrderedDict[object, float] = OrderedDict()

    def wait_s(self, peer: object, size: int, now: float) -> float | None:
        """How many seconds an answer has to wait, for which room is kept then; None if there is no room.

        Args:
            peer: who asks.
            size: of the answer, in bytes.
            now: in seconds.
        """
        begin = max(now, self._all_free_at, self._free_at.get(peer, 0.0))
        if begin - now > WAIT_MAX_S:
            return None
        self._all_free_at = max(now, self._all_free_at) + size / self._rate
        self._free_at[peer] = begin + 4 * size / self._rate
        self._free_at.move_to_end(peer)
        while len(self._free_at) > PEERS_MAX:
            self._free_at.popitem(last=False)
        return begin - now
