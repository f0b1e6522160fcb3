"""The conformance kit for all parts; the kits for seats and extras build on it.

A kit runs the part alone (``solo.py``): the kernel is real, the ports do what the kit says. It calls each method of the part three times: with
ports that fail, with ports that never answer, and cancelled in the middle. A part passes if each result or error is one that its protocol's
docstring allows, if it can be cancelled, and if it works afterwards.

Kits run under virtual time, so that nothing that hangs costs time. A part that needs threads or sockets of its own overrides the fixture
``anyio_backend`` to return ``"asyncio"``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import CollectorRegistry

from fluvial.assembly.life import STOP_S
from fluvial.assembly.switchboard import Switchboard
from fluvial.errors import FluvialError
from fluvial.findings import Finding
from fluvial.guard.guard import Guard, PluginFailed
from fluvial.identity import KeyPair, PeerId
from fluvial.memory.network import Memory
from fluvial.observers import Observers
from fluvial.plugins import load_plugins
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Part
from fluvial.services import describe
from fluvial.tables import Tables
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import Solo, Surrounding, solo
from fluvial.virtual.loop import BACKEND

Build: TypeAlias = Callable[[Context], Any]
"""What the fixture ``build`` returns: a part for a context."""

SLOW_PORTS: Final = ("peers", "directory", "blobs", "ledger")
"""Ports that depend on other peers, and so may never answer."""
START_S: Final = 5.0
CALL_S: Final = 5.0
STRANGER: Final[KeyPair] = KeyPair.from_secret(b"the part kits' stranger, a key!!")
"""A peer that no part can know."""


@pytest.mark.anyio
class PartConformance:
    """What every part must do. The one fixture to give is ``build``."""

    kind: ClassVar[PartKind] = "extra"
    """Which ports it may use."""
    tables: ClassVar[Tables | None] = None
    """Those of its offer."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        """Virtual time; see the module's docstring."""
        return BACKEND

    @pytest.fixture
    def build(self) -> Build:
        """How the part under test is built."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `build`")

    @pytest.fixture
    async def running(self, build: Build, tmp_path: Path) -> AsyncIterator[Solo[Any]]:
        """The part, running alone."""
        async with self.alone(build, tmp_path) as part:
            yield part

    def alone(
        self,
        build: Build,
        base_dir: Path,
        *,
        name: str = "under-test",
        network: Memory | None = None,
        hangs: Sequence[str] = (),
    ) -> AbstractAsyncContextManager[Solo[Any]]:
        """The part, to be run alone."""
        return solo(
            lambda context, _: build(context),
            name=name,
            kind=self.kind,
            network=network,
            tables=self.tables,
            base_dir=base_dir,
            hangs=hangs,
        )

    def asked(self, part: Any) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The methods of such a part that the node awaits, by name; besides its answers."""
        return {}

    # --- what it gives

    async def test_it_is_built_without_its_ports(self, build: Build, tmp_path: Path) -> None:
        """Building does no I/O and touches no port, and what it gives is data: read twice, it is the same."""
        around = Surrounding(kind=self.kind, base_dir=tmp_path)
        part: Part = build(around.context)
        given, again = part.contributions(), part.contributions()
        check(isinstance(given, Contributions), f"contributions() returned a {type(given).__name__}")
        check(
            [one.protocol for one in given.answers] == [one.protocol for one in again.answers],
            "contributions() gives other answers each time",
        )

    async def test_what_it_gives_can_be_used(self, build: Build, tmp_path: Path) -> None:
        """Names and limits of its answers, hooks of its watchers, the interfaces of its services; its metrics are named as they must."""
        around = Surrounding(kind=self.kind, base_dir=tmp_path)
        given: Contributions = build(around.context).contributions()
        guard = Guard(log=around.context.log, metrics=CollectorRegistry(), rng=Random(0))  # noqa: S311 - no secret
        Switchboard(guard=guard, metrics=CollectorRegistry()).connect(
            given.answers, owner="under-test", plugin="under-test"
        )
        observers = Observers(
            around.peer, load_plugins(entry_points=()), log=around.context.log, metrics=CollectorRegistry()
        )
        for watcher in given.watchers:
            observers.add(watcher, owner="under-test", plugin="under-test")
        for service in given.services:
            for name, function in describe(type(service)).functions.items():
                check(
                    bool(function.doc), f"{service.service_id}.{name} has no docstring: nobody will know what it does"
                )
        names = [metric.name for metric in around.context.metrics.collect()]
        check(all(name.startswith("fluvial_") for name in names), f"metrics begin with fluvial_: {names}")

    async def test_what_it_says_of_itself_is_well_formed(self, running: Solo[Any]) -> None:
        """Capabilities that can be written, and findings."""
        given = running.given
        for one in given.capabilities() if given.capabilities is not None else ():
            check(Capability.parse(str(one)) == one, f"{one!r} is no capability")
        for finding in given.health() if given.health is not None else ():
            check(isinstance(finding, Finding), f"health() yields a {type(finding).__name__}, not a Finding")

    async def test_many_live_in_one_process(self, build: Build, tmp_path: Path) -> None:
        """Nothing is shared by accident: metrics, module globals, protocols."""
        network = Memory()
        one = self.alone(build, tmp_path, name="one", network=network)
        async with one, self.alone(build, tmp_path, name="other", network=network):
            pass

    # --- start and stop

    async def test_it_starts_although_nobody_answers(self, build: Build, tmp_path: Path) -> None:
        """``started()`` comes before it asks other peers: two that both asked first would wait for each other."""
        with anyio.move_on_after(START_S) as scope:
            async with self.alone(build, tmp_path, hangs=SLOW_PORTS):
                scope.deadline = math.inf
        check(not scope.cancelled_caught, "it does not start while other peers do not answer")

    async def test_it_stops_when_it_is_asked(self, build: Build, tmp_path: Path) -> None:
        """Within ten seconds, also while nobody answers any more, and it does not end by itself before."""
        for trouble in ("work", "fail", "hang"):
            async with self.alone(build, tmp_path) as part:
                await anyio.sleep(1)
                getattr(part.around.doors, trouble)(*(SLOW_PORTS if trouble != "work" else ()))
                began = anyio.current_time()
            check_ended(part, f"it does not stop within {STOP_S:g} s while its ports {trouble}")
            check(anyio.current_time() - began <= STOP_S, "it takes too long to stop")

    # --- what it answers

    async def test_garbage_is_answered_or_refused(self, build: Build, tmp_path: Path) -> None:
        """Whatever a stranger sends to its protocols: an answer or a FluvialError, never another exception."""
        rng, network = Random(1), Memory()  # noqa: S311 - no secret
        async with (
            self.alone(build, tmp_path, network=network) as part,
            solo(_Nobody, name="x", network=network) as other,
        ):
            for answer in part.given.answers:
                for payload in (b"", b"\0", b"{}", rng.randbytes(300), b"\xff" * min(answer.bytes_max, 65_000)):
                    with suppress(FluvialError):
                        await other.around.context.peers.request(part.peer, answer.protocol, payload, timeout_s=CALL_S)
            check_failures(part, "what a stranger sent")

    async def test_answers_get_along_without_ports(self, running: Solo[Any]) -> None:
        """An answer that needs a port fails with a FluvialError if the port fails, and can be cancelled if it hangs."""
        for answer in running.given.answers:
            await self._try(running, answer.protocol, lambda by=answer.by: by(STRANGER.peer_id, b"{}"))  # type: ignore[misc]

    async def test_methods_get_along_without_ports(self, running: Solo[Any]) -> None:
        """Each awaited method: with ports that fail, with ports that hang, cancelled in the middle; then it works on."""
        for name, work in self.asked(running.part).items():
            await self._try(running, name, work)

    async def _try(self, part: Solo[Any], name: str, work: Callable[[], Awaitable[object]]) -> None:
        doors = part.around.doors
        for trouble in ("fail", "hang"):
            getattr(doors, trouble)()
            with _only_fluvial_errors(part, f"{name} while its ports {trouble}", passes_timeouts=trouble == "hang"):
                await part.around.guard.call("under-test", name, work, timeout_s=CALL_S, passes=(FluvialError,))
            doors.work()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(self._begin, part, name, work)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        check(
            not part.metric("fluvial_plugin_failures_total", plugin="under-test", cause="left_behind"),
            f"{name} ignores its cancellation",
        )
        with _only_fluvial_errors(part, f"{name} after a cancelled one"):
            await part.around.guard.call("under-test", name, work, timeout_s=CALL_S, passes=(FluvialError,))

    async def _begin(self, part: Solo[Any], name: str, work: Callable[[], Awaitable[object]]) -> None:
        with _only_fluvial_errors(part, name, passes_timeouts=True):
            await part.around.guard.call("under-test", name, work, timeout_s=CALL_S, passes=(FluvialError,))


class _Nobody(Part):
    """A part that does nothing."""

    def __init__(self, context: Context, options: object) -> None:
        """Has no options."""


def check(condition: object, message: str) -> None:
    """Fail the test with this message unless something is so."""
    if not condition:
        pytest.fail(message)


def check_ended(part: Solo[Any], message: str) -> None:
    """The part was not left behind, and did not fail."""
    bad = [entry for entry in part.around.logged if entry["event"] in ("part_left_behind", "part_failed")]
    check(not bad, f"{message}: {bad}")


def check_failures(part: Solo[Any], what: str) -> None:
    """The part has raised nothing unexpected so far."""
    bad = [entry for entry in part.around.logged if entry["event"].startswith("plugin_call_")]
    check(not bad, f"{what} makes it fail: {[(entry['call'], entry['error']) for entry in bad]}")


@contextmanager
def _only_fluvial_errors(part: Solo[Any], what: str, *, passes_timeouts: bool = False) -> Iterator[None]:
    """Ensure that nothing else is raised; a call that hangs may be given up."""
    try:
        yield
    except PluginFailed as error:
        if not (passes_timeouts and error.timed_out):
            cause = next((one["error"] for one in part.around.logged if one.get("id") == error.id), error.message)
            pytest.fail(f"{what}: it {cause}; its callers expect a FluvialError")
    except FluvialError:
        pass


def peer_of(number: int) -> PeerId:
    """Some peer."""
    return KeyPair.from_secret(number.to_bytes(32, "big")).peer_id
