"""Who was told to come again later since a crowd waits for a peer, and until when: asked before anything is done for what they bring; pure."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Final

import msgspec

from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.identity import PeerId

RETRY_S: Final = 0.5
"""How long they are to wait, in seconds: a crowd is handed some dozens of particles in that time."""
UNDER_WAY_S: Final = 0.2
"""What comes so soon after they were told was under way already, in seconds: somebody may have begun dozens of flows at one moment."""
CAME_MAX: Final = 4
"""How often they may come later than that, and before they may, without being taken for somebody who does not keep to it."""
GREEDY_S: Final = 5.0
"""How long they wait who come more often, in seconds."""
TOLD_MAX: Final = 4_096
"""How many of them are remembered; of others it is found out again."""


class _Told(msgspec.Struct):
    """Since when and until when somebody is to wait, and how often it came before that."""

    since_s: float
    until_s: float
    came: int = 0


class ToldToWait:
    """See the module's docstring. Times are in seconds, by one clock that does not go back.

    Who goes on bringing what is new while it is to wait, waits longer: all that it gets then would be taken from those who keep to it.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[Upstream, _Told] = OrderedDict()  # those who were told last are the last

    def refusal(self, upstream: Upstream, peer: PeerId, now_s: float) -> Refused:
        """What to say to whoever brings more for a peer for which a crowd waits; it is remembered."""
        self._told[upstream] = _Told(now_s, now_s + RETRY_S)
        self._told.move_to_end(upstream)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return _refused(f"much of what you bring waits for {peer}, as does what others bring", RETRY_S)

    def check(self, upstream: Upstream, now_s: float) -> None:
        """Raise Refused, ``busy``, if it was told to wait and the time is not over."""
        if (told := self._told.get(upstream)) is None:
            return
        if told.until_s <= now_s:
            del self._told[upstream]
            return
        told.came += now_s - told.since_s > UNDER_WAY_S
        if told.came > CAME_MAX:
            told.until_s = now_s + GREEDY_S
        raise _refused("you were told to wait with what is new", told.until_s - now_s)


def _refused(why: str, retry_s: float) -> Refused:
    retry_ms = ceil(retry_s * 1000)
    return Refused(why, reason="busy", hint=f"try again in {retry_ms} ms", retry_ms=retry_ms)
