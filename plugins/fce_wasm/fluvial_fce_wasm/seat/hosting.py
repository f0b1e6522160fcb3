"""Functions of the host for guests: which a module may import, and one call's way to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import anyio
import msgspec
import structlog
from fluvial.clock import Clock
from fluvial.effectors import EffectorError, Tetraplet
from fluvial.errors import ConfigError, PluginError
from fluvial.host_interfaces import Guest, HostInterface, HostSession
from fluvial.identity import PeerId
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.process.messages import HostAnswer
from fluvial_fce_wasm.seat.options import EffectorGrant
from fluvial_fce_wasm.wit.parsing import WitSyntaxError, parse_interface
from fluvial_fce_wasm.wit.types import WitInterface, WitPrimitive, WitResult

HOST_S: Final = 30.0
"""How long one function of the host may take, if the call lives that long."""
TETRAPLETS_AT_ONCE: Final = 1_024
"""So many are told at once, in a millisecond; more of them, of an argument that is a large canon, in a thread."""
STRING: Final = WitPrimitive("string")

CONTEXT_WIT: Final = """
package fluvial:service@0.1.0;

/// What a service can know of the call that it is answering.
interface context {
  /// Where a value comes from: the call that made it and the path into its result; empty strings for a literal.
  record tetraplet { peer: string, service: string, function: string, lens: string }
  /// The peer that began the particle.
  initiator: func() -> string;
  particle-id: func() -> string;
  /// The id of this service, whatever alias it was called by.
  service-id: func() -> string;
  /// The peer that deployed this service.
  owner: func() -> string;
  /// The peer that this service runs on.
  peer-id: func() -> string;
  /// Milliseconds until the particle ends.
  remaining-ms: func() -> u64;
  /// For each argument its tetraplets: one for a value, one per element for a canonicalised stream.
  tetraplets: func() -> list<list<tetraplet>>;
}
"""


class CallContext(HostInterface):
    """``fluvial:service/context``, which every guest may import without a grant."""

    effector = "context"
    wit = CONTEXT_WIT

    def __init__(self, peer: PeerId, clock: Clock) -> None:
        self._peer = peer
        self._clock = clock

    def session(self, guest: Guest, options: Any) -> HostSession:
        """The answers for one call."""
        call = guest.call

        def give(value: Any) -> Any:
            async def given() -> Any:
                return value

            return given

        async def remaining_ms() -> int:
            return max(0, call.timestamp_ms + call.ttl_ms - self._clock.now_ms())

        async def tetraplets() -> list[list[dict[str, str]]]:
            work = partial(_told, call.tetraplets)
            return work() if sum(map(len, call.tetraplets)) <= TETRAPLETS_AT_ONCE else await in_thread(work)

        return HostSession(
            {
                "initiator": give(str(call.initiator)),
                "particle-id": give(call.particle_id),
                "service-id": give(guest.service),
                "owner": give(str(guest.owner)),
                "peer-id": give(str(self._peer)),
                "remaining-ms": remaining_ms,
                "tetraplets": tetraplets,
            }
        )


def _told(tetraplets: Sequence[Sequence[Tetraplet]]) -> list[list[dict[str, str]]]:
    return [
        [{"peer": one.peer, "service": one.service, "function": one.function, "lens": one.lens} for one in some]
        for some in tetraplets
    ]


class OfferedInterface(msgspec.Struct, frozen=True):
    """A host interface with its WIT read."""

    interface: HostInterface
    name: str
    shape: WitInterface

    @classmethod
    def of(cls, interface: HostInterface) -> OfferedInterface:
        """Raises PluginError: its WIT cannot be read."""
        try:
            name, shape = parse_interface(interface.wit)
        except WitSyntaxError as error:
            raise PluginError(f"effector {interface.effector!r}: its WIT cannot be read: {error}") from error
        return cls(interface, name, shape)


class HostShelf:
    """All host interfaces of this peer, and who may import which.

    Args:
        free: those that need no grant.
        interfaces: those that plugins give.
        grants: of the settings.

    Raises:
        ConfigError: a grant names an effector that nobody gives, or has settings that it does not take.
        PluginError: an interface has no readable WIT, or two have one name.
    """

    def __init__(
        self, free: Sequence[HostInterface], interfaces: Sequence[HostInterface], grants: Sequence[EffectorGrant]
    ) -> None:
        self._free = {one.name: one for one in map(OfferedInterface.of, free)}
        self._offered: dict[str, OfferedInterface] = {}
        for one in map(OfferedInterface.of, interfaces):
            if one.name in self._offered or one.name in self._free:
                raise PluginError(f"two effectors give the interface {one.name!r}", hint="switch one of them off")
            self._offered[one.name] = one
        effectors = {one.interface.effector for one in self._offered.values()}
        self._grants: list[tuple[EffectorGrant, OfferedInterface, Any]] = []
        for grant in grants:
            if grant.effector not in effectors:
                raise ConfigError(
                    f"execution.grants: there is no effector {grant.effector!r} for guests",
                    hint=f"there are: {', '.join(sorted(effectors)) or 'none'}; one is switched on by [extras.NAME]",
                )
            self._grants += [
                (grant, one, _settings(grant, one.interface))
                for one in self._offered.values()
                if one.interface.effector == grant.effector
            ]

    def given(self, *, module: str, blueprint: str, owner: str) -> dict[str, WitInterface]:
        """The interfaces that a module of a service may import."""
        granted = {
            one.name: one.shape
            for grant, one, _ in self._grants
            if grant.covers(module=module, blueprint=blueprint, owner=owner)
        }
        return {**{name: one.shape for name, one in self._free.items()}, **granted}

    def settings(
        self, name: str, *, modules: Sequence[str], blueprint: str, owner: str
    ) -> tuple[OfferedInterface, Any] | None:
        """An interface with the settings of the first grant that gives it to a service; None if none does."""
        if name in self._free:
            return self._free[name], None
        for grant, one, settings in self._grants:
            if one.name == name and any(
                grant.covers(module=module, blueprint=blueprint, owner=owner) for module in modules
            ):
                return one, settings
        return None

    def granted_effectors(self) -> set[str]:
        """Effectors that somebody may import."""
        return {grant.effector for grant, _, _ in self._grants}

    def effector_of(self, name: str) -> str | None:
        """The effector behind an interface's name, whether it is granted or not."""
        return self._offered[name].interface.effector if name in self._offered else None

    def listed(self) -> list[dict[str, Any]]:
        """All interfaces with their effectors, for people."""
        return [
            {"interface": one.name, "effector": one.interface.effector, "wit": one.interface.wit}
            for one in (*self._free.values(), *self._offered.values())
        ]

    async def forget(self, service: str) -> None:
        """Tell all that a service was removed."""
        for one in self._offered.values():
            await one.interface.forget(service)


def _settings(grant: EffectorGrant, interface: HostInterface) -> Any:
    try:
        return msgspec.convert(grant.settings, interface.options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"execution.grants: settings of {grant.effector!r}: {error}") from error


class HostCalls:
    """What one call of a service asks of the host.

    Args:
        shelf: where interfaces come from.
        guest: who asks.
        modules, blueprint: of the service.
        log: hears of functions that break.
    """

    def __init__(
        self,
        shelf: HostShelf,
        guest: Guest,
        *,
        modules: Sequence[str],
        blueprint: str,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._shelf = shelf
        self._guest = guest
        self._modules = modules
        self._blueprint = blueprint
        self._log = log
        self._sessions: dict[str, tuple[OfferedInterface, HostSession]] = {}

    async def answer(self, interface: str, function: str, arguments: list[Any]) -> HostAnswer:
        """The answer to a guest's call; anything that fails is one, too."""
        try:
            offered, session = self._session(interface)
            work = session.functions[function]
            result = offered.shape.functions[function].result
        except LookupError:
            return HostAnswer(trap=f"{interface}#{function} is not given to this service any more")
        except Exception as error:  # noqa: BLE001 - foreign code
            return self._broken(interface, function, error)
        wraps = isinstance(result, WitResult) and result.error == STRING
        try:
            with anyio.fail_after(HOST_S):
                value = await work(*arguments)
        except EffectorError as error:
            return HostAnswer({"err": error.message}) if wraps else HostAnswer(trap=error.message)
        except TimeoutError:
            return HostAnswer(trap=f"{function} took longer than {HOST_S:g} s")
        except Exception as error:  # noqa: BLE001 - foreign code
            return self._broken(interface, function, error)
        return HostAnswer({"ok": value} if wraps else value)

    def _session(self, interface: str) -> tuple[OfferedInterface, HostSession]:
        if interface not in self._sessions:
            found = self._shelf.settings(
                interface, modules=self._modules, blueprint=self._blueprint, owner=str(self._guest.owner)
            )
            if found is None:
                raise LookupError(interface)
            offered, settings = found
            self._sessions[interface] = (offered, offered.interface.session(self._guest, settings))
        return self._sessions[interface]

    def _broken(self, interface: str, function: str, error: Exception) -> HostAnswer:
        self._log.error("host_function_failed", interface=interface, function=function, exc_info=error)
        return HostAnswer(trap=f"{function} broke; the peer's log has more")

    async def keep(self) -> None:
        """Make durable what the sessions have gathered."""
        for _, session in self._sessions.values():
            await session.keep()
