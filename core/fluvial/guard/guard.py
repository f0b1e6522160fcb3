"""The boundary around foreign code: each call of a plugin has a deadline, and whatever goes wrong in it costs that call, never the node.

The cause is logged and counted under the plugin's name. Other peers learn, perhaps from signed data, only that the call failed, and the id of
the log entry.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias, TypeVar, cast

import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.errors import FluvialError, PluginError
from fluvial.faults import describe
from fluvial.guard.blame import BLAME, Blame
from fluvial.guard.detached import Detached
from fluvial.guard.stand_in import StandIns

T = TypeVar("T")

CALL_S: Final = 5.0
"""Default deadline of a call of a seat, in seconds."""
ENDING_S: Final = 1.0
"""How long cancelled code may take to clean up before it is left behind, in seconds."""
LEFT_BEHIND_MAX: Final = 64
"""Calls of one plugin that were left behind and still run; beyond it the plugin is not called any more."""

Passes: TypeAlias = tuple[type[FluvialError], ...]
"""The errors that a call may raise on purpose."""


class PluginFailed(PluginError):
    """A call of foreign code failed. The message may be sent to others, so it does not name the cause.

    Attributes:
        id: the id of the log entry with the cause.
        what: which call.
        cause: the exception, if there was one.
        timed_out: whether its deadline passed.
    """

    code = "F203"

    def __init__(
        self, what: str, *, failure_id: str, cause: BaseException | None = None, timed_out: bool = False
    ) -> None:
        message = f"{what} {'took too long' if timed_out else 'failed'} ({failure_id})"
        super().__init__(message, hint=f"the peer's log has the cause under the id {failure_id}")
        self.id = failure_id
        self.what = what
        self.cause = cause
        self.timed_out = timed_out

    def for_operator(self) -> PluginError:
        """The same error with its cause, for the operator of the peer."""
        if self.cause is None:
            return self
        return PluginError(f"{self.what} failed: {describe(self.cause)}", hint="the log has the traceback")


class Guard:
    """Calls foreign code.

    Args:
        log: gets an error with the traceback and the plugin's name for each failure.
        metrics: gets ``fluvial_plugin_failures_total{plugin,cause}``.
        rng: makes the ids.
    """

    def __init__(self, *, log: structlog.stdlib.BoundLogger, metrics: CollectorRegistry, rng: Random) -> None:
        self._log = log
        self._rng = rng
        self._left_behind: Counts[str] = Counts()
        self._stand_ins = StandIns()
        self._failures = Counter(
            "fluvial_plugin_failures",
            "Calls of plugins that failed, by plugin and cause",
            ["plugin", "cause"],
            registry=metrics,
        )

    def close(self) -> None:
        """No call is to come; what still runs is not waited for."""
        self._stand_ins.close()

    async def call(
        self,
        plugin: str,
        what: str,
        work: Callable[[], Awaitable[T]],
        *,
        timeout_s: float = CALL_S,
        passes: Passes = (),
        at_once: bool = False,
    ) -> T:
        """Await ``work`` and return its result.

        Args:
            plugin: the plugin whose code it is, for log and metric.
            what: which call, for people: ``authorization.admit``.
            work: starts the call.
            timeout_s: its deadline, in seconds.
            passes: the errors that it may raise on purpose; any other error is a failure.
            at_once: begin it at once, see :class:`Detached`.

        Raises:
            FluvialError: one of ``passes``, as ``work`` raised it.
            PluginFailed: it raised anything else, or its deadline passed.
        """
        self._check_left_behind(plugin, what)
        stand_ins = self._stand_ins if at_once else None
        task = Detached(work, what, blame=self.blame(plugin, what), at_once=stand_ins)
        try:
            in_time = task.over or await task.wait(timeout_s)
        except BaseException:  # the caller is cancelled
            await self._end(task, plugin, what)
            raise
        if not in_time:
            failed = self._failed(plugin, what, f"took longer than {timeout_s:g} s", cause="timeout")
            await self._end(task, plugin, what)
            raise failed
        if task.error is None:
            return task.result
        try:
            if isinstance(task.error, passes):
                raise task.error
            raise self.failure(plugin, what, task.error) from None
        finally:
            del (
                task
            )  # in a circle with this frame it would keep all that its callers work with, until garbage is collected

    async def answer(
        self,
        plugin: str,
        what: str,
        work: Callable[[], T | Awaitable[T]],
        *,
        timeout_s: float = CALL_S,
        passes: Passes = (),
    ) -> T:
        """As :meth:`call`, for work that may also return its result at once, which costs no task."""
        found = self.begin(plugin, what, work, passes=passes)
        if not hasattr(found, "__await__"):
            return found
        return await self.call(plugin, what, lambda: cast("Awaitable[T]", found), timeout_s=timeout_s, passes=passes)

    def begin(
        self, plugin: str, what: str, work: Callable[[], T | Awaitable[T]], *, passes: Passes = ()
    ) -> T | Awaitable[T]:
        """The first part of :meth:`answer`: the result, or what :meth:`call` is to await."""
        self._check_left_behind(plugin, what)
        return self.run(plugin, what, work, passes=passes)

    def _check_left_behind(self, plugin: str, what: str) -> None:
        if self._left_behind and self._left_behind[plugin] >= LEFT_BEHIND_MAX:
            happened = f"not called: {LEFT_BEHIND_MAX} of its calls ignore their cancellation"
            raise self._failed(plugin, what, happened, cause="left_behind")

    def run(self, plugin: str, what: str, work: Callable[[], T], *, passes: Passes = ()) -> T:
        """Call ``work``, which is quick, and return its result; raises as :meth:`call`."""
        token = BLAME.set(self.blame(plugin, what))
        try:
            return work()
        except passes:
            raise
        except BaseException as error:  # noqa: BLE001 - the plugin boundary
            raise self.failure(plugin, what, error) from None
        finally:
            BLAME.reset(token)

    def ask(self, plugin: str, what: str, work: Callable[[], T], otherwise: T) -> T:
        """Call ``work``, which is quick, and return its result; ``otherwise`` if it raises anything, which is logged and counted."""
        token = BLAME.set(self.blame(plugin, what))
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - the plugin boundary
            self.failure(plugin, what, error)
            return otherwise
        finally:
            BLAME.reset(token)

    def blame(self, plugin: str, what: str) -> Blame:
        """For the context of a call: what it leaves to the event loop, such as tasks, fails under the plugin's name, too."""
        return partial(self._begun_failed, plugin, what)

    def _begun_failed(self, plugin: str, what: str, error: BaseException) -> PluginFailed:
        return self.failure(plugin, f"{what}: work that it has begun", error)

    def failure(self, plugin: str, what: str, error: BaseException) -> PluginFailed:
        """Log and count an exception of foreign code; returns the error to raise in its place."""
        return self._failed(plugin, what, f"failed: {type(error).__name__}", cause="error", error=error)

    def wrong(self, plugin: str, what: str, value: object) -> PluginFailed:
        """Log and count a result of a wrong type; returns the error to raise in its place."""
        return self._failed(
            plugin, what, f"returned a {type(value).__name__}, which is not what it must return", cause="result"
        )

    def _failed(
        self, plugin: str, what: str, happened: str, *, cause: str, error: BaseException | None = None
    ) -> PluginFailed:
        failure_id = f"{self._rng.getrandbits(48):012x}"
        self._failures.labels(plugin, cause).inc()
        self._log.error(
            "plugin_call_failed", plugin=plugin, call=what, id=failure_id, error=happened, exc_info=safe(error)
        )
        return PluginFailed(what, failure_id=failure_id, cause=error, timed_out=cause == "timeout")

    async def _end(self, task: Detached[Any], plugin: str, what: str) -> None:
        if not await task.end(ENDING_S):
            self._failures.labels(plugin, "left_behind").inc()
            self._left_behind[plugin] += 1
            task.on_over(lambda: self._left_behind.subtract([plugin]))
            self._log.error("plugin_call_left_behind", plugin=plugin, call=what, error="it ignores its cancellation")


def safe(error: BaseException | None) -> BaseException | None:
    """The exception, or a stand-in with its traceback if the exception cannot be turned into text."""
    if error is None:
        return None
    try:
        repr(error), str(error)
    except BaseException:  # noqa: BLE001 - a __str__ of somebody else
        return RuntimeError(f"{type(error).__name__}, whose text cannot be had").with_traceback(error.__traceback__)
    return error
