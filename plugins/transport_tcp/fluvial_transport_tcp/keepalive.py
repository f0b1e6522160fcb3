"""Whether a connection is alive, idle or stuck: marks left by its tasks, judged now and then; time is passed in."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """What is to be done: nothing, or ask for a sign of life, or cut the connection for a reason."""

    ask: bool = False
    reason: str = ""
    text: str = ""


class KeepAlive:
    """Marks of one connection; setting one costs nothing, so the clock is read only when they are judged.

    Args:
        now: when the connection began, seconds of a clock that never goes back, as all times here.
        keepalive_s: silence after which a sign of life is asked for.
        silence_max_s: silence, or time in which no bytes were taken, after which the connection is dead.
        frame_max_s: time for a frame that has begun to be here as a whole.
        leaving_max_s: time for both sides to say goodbye.

    Attributes:
        heard: set when bytes came in.
        active: set when a message came or went, other than signs of life.
        paused: true while this side does not read.
        frame: number of the frame that has begun and is not complete, 0 if there is none; no two frames in a row have the same.
        writing_at: when the write began that is not done, else None.
        leaving_at: when the connection began to take no more messages, else None.
    """

    __slots__ = (
        "_active_at",
        "_asked",
        "_frame_at",
        "_frame_max_s",
        "_frame_seen",
        "_heard_at",
        "_keepalive_s",
        "_leaving_max_s",
        "_silence_max_s",
        "active",
        "frame",
        "heard",
        "leaving_at",
        "paused",
        "writing_at",
    )

    def __init__(
        self, now: float, *, keepalive_s: float, silence_max_s: float, frame_max_s: float, leaving_max_s: float
    ) -> None:
        self.heard = self.active = self.paused = False
        self.frame = 0
        self.writing_at: float | None = None
        self.leaving_at: float | None = None
        self._keepalive_s = keepalive_s
        self._silence_max_s = silence_max_s
        self._frame_max_s = frame_max_s
        self._leaving_max_s = leaving_max_s
        self._heard_at = self._active_at = self._frame_at = now
        self._frame_seen = 0
        self._asked = False

    def pause(self) -> None:
        """This side does not read."""
        self.paused = True

    def resume(self) -> None:
        """This side reads again, and it is as if it had just heard something: the other side may have said a lot that was not read."""
        self.paused = False
        self.heard = True

    def idle_s(self, now: float) -> float:
        """Seconds since the last message, as of the last judgement."""
        return now - self._active_at

    def frame_s(self, now: float) -> float:
        """Seconds since the frame that is not complete was first seen by a judgement; 0 if there is none, or if reading is paused."""
        return now - self._frame_at if self.frame and self.frame == self._frame_seen and not self.paused else 0.0

    def silent_since(self, moment: float) -> bool:
        """Whether no bytes came after a judgement, or the beginning, that was at this time."""
        return not self.heard and self._heard_at <= moment

    def judge(self, now: float) -> Verdict:
        """What the marks mean; call it every second or so."""
        self._look(now)
        silence_s = 0.0 if self.paused else now - self._heard_at
        if self.leaving_at is not None and now - self.leaving_at > self._leaving_max_s:
            return Verdict(reason="stalled", text="a goodbye was not answered")
        if self.writing_at is not None and now - self.writing_at > self._silence_max_s:
            return Verdict(reason="stalled", text=f"no bytes were taken for {self._silence_max_s:g} s")
        if self.frame_s(now) > self._frame_max_s:
            return Verdict(reason="slow", text=f"a message was not complete within {self._frame_max_s:g} s")
        if silence_s > self._silence_max_s:
            return Verdict(reason="silent", text=f"no sign of life for {self._silence_max_s:g} s")
        if silence_s > self._keepalive_s and not self._asked:
            self._asked = True
            return Verdict(ask=True)
        return Verdict()

    def _look(self, now: float) -> None:
        if self.heard:
            self.heard, self._heard_at, self._asked = False, now, False
        if self.active:
            self.active, self._active_at = False, now
        if self.frame != self._frame_seen or self.paused:
            self._frame_seen, self._frame_at = self.frame, now
