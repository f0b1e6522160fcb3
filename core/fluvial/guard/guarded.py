"""The seats as the rest of the node sees them: every call goes through the guard, and every result is checked.

A wrapper exists before its seat is taken, since ports refer to it while the parts are built. Each class says what happens when its part fails:
the authorization fails closed; the others behave as if what was asked for did not exist, and report the true reason.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final, Generic, TypeVar, cast

from fluvial.addresses import Address, Contact
from fluvial.effectors import Call
from fluvial.errors import (
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
    ServiceError,
    StorageError,
    Unreachable,
)
from fluvial.guard.guard import CALL_S, Guard, PluginFailed
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.ports import NO_BLOCKS, Capability, Provider, View
from fluvial.seats import ALLOWED, Authorization, Consensus, Decision, Execution, Json, Routing, Transport
from fluvial.timer_wheel import TimerWheel
from fluvial.waiting import Future, future, now_s

PartT = TypeVar("PartT")
T = TypeVar("T")

TRANSPORT_GRACE_S: Final = 5.0
"""What a transport may take beyond the deadline that it was given, in seconds."""
WAYS: Final = (Unreachable, RemoteProtocolError, LocalProtocolError)
"""What a transport may raise on purpose."""
ADMIT_RAISES: Final = (Refused, StorageError)
"""What an authorization may raise on purpose when it is asked about a particle."""
REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""A short word for metrics."""
EXPLANATION_CHARACTERS_MAX: Final = 500
SEND_S: Final = 60.0
"""How long a one-way message may wait for its place, in seconds."""


class _Seat(Generic[PartT]):
    """A seat and the part that has taken it."""

    def __init__(self, guard: Guard, name: str) -> None:
        self._guard = guard
        self._name = name
        self._part: PartT | None = None
        self._plugin = ""

    def take(self, part: PartT, plugin: str) -> None:
        """Put a part into the seat; ``plugin`` names the plugin whose code it is."""
        self._part = part
        self._plugin = plugin

    @property
    def part(self) -> PartT:
        """The part in the seat."""
        assert self._part is not None, f"nobody has taken the seat of {self._name}"
        return self._part

    @property
    def plugin(self) -> str:
        """The plugin whose code it is."""
        return self._plugin

    def _what(self, method: str) -> str:
        return f"{self._name}.{method}"

    def _wrong(self, method: str, value: object) -> PluginFailed:
        return self._guard.wrong(self._plugin, self._what(method), value)


class GuardedTransport(_Seat[Transport]):
    """The transport; one that fails reaches nobody."""

    def __init__(self, guard: Guard, name: str) -> None:
        super().__init__(guard, name)
        self._wheel = TimerWheel()
        self._requested = self._what("request")

    @property
    def addresses(self) -> Sequence[Address]:
        """As :attr:`Transport.addresses`; none if it fails."""
        return self._guard.ask(self._plugin, self._what("addresses"), lambda: _all(Address, self.part.addresses), ())

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """As :meth:`Transport.request`; over a connection that has room it costs no task."""
        answer = self.ask(contact.peer, protocol, payload, timeout_s=timeout_s)
        return await (self._request(contact, protocol, payload, timeout_s=timeout_s) if answer is None else answer)

    def ask(self, peer: PeerId, protocol: str, payload: bytes, *, timeout_s: float) -> Awaitable[bytes] | None:
        """As :meth:`Transport.ask`: None if nothing was sent, else what is to be awaited, at once, for what :meth:`request` gives."""
        answered: Future[object] = future()

        def tell(found: object) -> None:
            if not answered.done():
                answered.set_result(found)

        take_back = self._guard.ask(
            self._plugin,
            self._requested,
            lambda: self.part.ask(peer, protocol, payload, tell, timeout_s=timeout_s),
            None,
        )
        return None if take_back is None else self._answer(peer, answered, tell, take_back, timeout_s)

    async def _answer(
        self,
        peer: PeerId,
        answered: Future[object],
        tell: Callable[[object], None],
        take_back: Callable[[], None],
        timeout_s: float,
    ) -> bytes:
        timer = self._wheel.at(now_s() + timeout_s + TRANSPORT_GRACE_S, partial(_tell_late, tell))
        found: object = None
        try:
            found = await answered
        finally:
            timer.cancel()
            if not isinstance(found, bytes):
                self._guard.ask(self._plugin, self._requested, take_back, None)
        if isinstance(found, bytes):
            return found
        try:
            if isinstance(found, WAYS):
                raise found
            failed = (
                self._guard.failure(self._plugin, self._requested, found)
                if isinstance(found, Exception)
                else self._wrong("request", found)
            )
            raise Unreachable(f"{peer}: {failed.message}", hint=failed.hint)
        finally:
            del found  # in a circle with this frame it would keep all that was sent, until garbage is collected

    async def _request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        try:
            answer = await self._guard.call(
                self._plugin,
                self._requested,
                lambda: self.part.request(contact, protocol, payload, timeout_s=timeout_s),
                timeout_s=timeout_s + TRANSPORT_GRACE_S,
                passes=WAYS,
            )
        except PluginFailed as error:
            raise Unreachable(f"{contact.peer}: {error.message}", hint=error.hint) from error
        if not isinstance(answer, bytes):
            raise Unreachable(f"{contact.peer}: {self._wrong('request', answer).message}")
        return answer

    async def send(self, contact: Contact, protocol: str, payload: bytes) -> None:
        """As :meth:`Transport.send`."""
        try:
            await self._guard.call(
                self._plugin,
                self._what("send"),
                lambda: self.part.send(contact, protocol, payload),
                timeout_s=SEND_S,
                passes=WAYS,
            )
        except PluginFailed as error:
            raise Unreachable(f"{contact.peer}: {error.message}", hint=error.hint) from error

    def post(self, peer: PeerId, protocol: str, payload: bytes) -> bool:
        """As :meth:`Transport.post`; nothing is sent if it fails."""
        return self._guard.ask(
            self._plugin, self._what("post"), lambda: self.part.post(peer, protocol, payload) is True, False
        )

    def dialable(self, address: Address) -> bool:
        """As :meth:`Transport.dialable`; none if it fails."""
        return self._guard.ask(self._plugin, self._what("dialable"), lambda: self.part.dialable(address) is True, False)

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        """As :meth:`Transport.prove`; none if it fails."""

        async def proven() -> Sequence[Address]:
            found = _all(Address, await self.part.prove(contact, timeout_s=timeout_s))
            return tuple(address for address in contact.addresses if address in found)

        try:
            return await self._guard.call(
                self._plugin, self._what("prove"), proven, timeout_s=timeout_s + TRANSPORT_GRACE_S
            )
        except PluginFailed:
            return ()

    def keep(self, contact: Contact) -> None:
        """As :meth:`Transport.keep`; without effect if it fails."""
        self._guard.ask(self._plugin, self._what("keep"), lambda: self.part.keep(contact), None)

    def connected(self) -> frozenset[PeerId]:
        """As :meth:`Transport.connected`; nobody if it fails."""
        return self._guard.ask(
            self._plugin, self._what("connected"), lambda: frozenset(self.part.connected()), frozenset()
        )

    def dialling(self, peer: PeerId) -> str:
        """As :meth:`Transport.dialling`; nothing is known if it fails."""
        return self._guard.ask(self._plugin, self._what("dialling"), lambda: str(self.part.dialling(peer)), "")

    def silent(self, peer: PeerId) -> bool:
        """As :meth:`Transport.silent`; not known if it fails."""
        return self._guard.ask(self._plugin, self._what("silent"), lambda: self.part.silent(peer) is True, False)

    async def disconnect(self, peer: PeerId) -> None:
        """As :meth:`Transport.disconnect`.

        Raises:
            PluginFailed: it failed.
        """
        await self._guard.call(
            self._plugin, self._what("disconnect"), lambda: self.part.disconnect(peer), timeout_s=CALL_S
        )


def _tell_late(tell: Callable[[object], None]) -> None:
    tell(TimeoutError("it told no answer in time"))


def _refusal(error: PluginFailed) -> Refused:
    """What a particle's sender hears of an authorization that failed."""
    return Refused(error.message, reason="busy" if error.timed_out else "broken", hint=error.hint)


class GuardedRouting(_Seat[Routing]):
    """The routing; one that fails finds nobody."""

    async def find(self, peer: PeerId) -> Contact | None:
        """As :meth:`Routing.find`.

        Raises:
            Unreachable: it failed.
        """
        try:
            found = await self._guard.call(
                self._plugin, self._what("find"), lambda: self.part.find(peer), passes=(Unreachable,)
            )
            if not (found is None or (isinstance(found, Contact) and found.peer == peer)):
                raise self._wrong("find", found)
        except PluginFailed as error:
            raise Unreachable(f"no way to {peer}: {error.message}", hint=error.hint) from error
        return found

    def known(self, peer: PeerId) -> Contact | None:
        """As :meth:`Routing.known`; None if it fails."""
        return self._guard.ask(self._plugin, self._what("known"), lambda: self._known(peer), None)

    def _known(self, peer: PeerId) -> Contact | None:
        """Inside of the guard: what is no contact of the peer is a failure of the part."""
        known = self.part.known(peer)
        if not (known is None or (isinstance(known, Contact) and known.peer == peer)):
            raise TypeError(f"{known!r} is no contact of {peer}")
        return known

    def failed(self, contact: Contact) -> None:
        """As :meth:`Routing.failed`; without effect if it fails."""
        self._guard.ask(self._plugin, self._what("failed"), lambda: self.part.failed(contact), None)

    def learn(self, contact: Contact) -> None:
        """As :meth:`Routing.learn`; forgotten if it fails."""
        self._guard.ask(self._plugin, self._what("learn"), lambda: self.part.learn(contact), None)

    def proven(self, peer: PeerId, address: Address) -> None:
        """As :meth:`Routing.proven`; forgotten if it fails."""
        self._guard.ask(self._plugin, self._what("proven"), lambda: self.part.proven(peer, address), None)

    def contacts(self) -> Sequence[Contact]:
        """As :meth:`Routing.contacts`; none if it fails."""
        return self._guard.ask(self._plugin, self._what("contacts"), lambda: _all(Contact, self.part.contacts()), ())

    async def providers(self, capability: Capability, *, limit: int) -> Sequence[Provider]:
        """As :meth:`Routing.providers`; none if it fails."""
        try:
            return await self._guard.call(
                self._plugin,
                self._what("providers"),
                lambda: self._providers(capability, limit),
                passes=(Unreachable,),
            )
        except (PluginFailed, Unreachable):
            return ()

    async def _providers(self, capability: Capability, limit: int) -> Sequence[Provider]:
        """Inside of the guard: what is no list of well-formed providers is a failure of the part."""
        found = _all(Provider, islice(await self.part.providers(capability, limit=limit), limit))
        for one in found:
            if not (isinstance(one.contact, Contact) and isinstance(one.weight, int)):
                raise TypeError(f"{one!r} is no well-formed provider")
        return found


def _all(kind: type[T], values: Iterable[object]) -> tuple[T, ...]:
    """Values of one type; raises TypeError if one is of another."""
    kept = tuple(values)
    for value in kept:
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} must")
    return kept  # type: ignore[return-value]  # it was checked


class GuardedAuthorization(_Seat[Authorization]):
    """The authorization, which is also the port ``trust``; one that fails admits and permits nothing, and everybody is a stranger to it."""

    def __init__(self, guard: Guard, name: str) -> None:
        super().__init__(guard, name)
        self._admission = self._what("admit")

    def admit(self, particle: Particle, sender: PeerId) -> Decision | Awaitable[Decision]:
        """As :meth:`Authorization.admit`; :data:`ALLOWED` or what is to be awaited for the decision.

        Raises:
            Refused: as the part raised it; ``broken`` if it failed, ``busy`` if it took too long.
            StorageError: as the part raised it.
        """
        try:
            found = self._guard.begin(
                self._plugin, self._admission, lambda: self.part.admit(particle, sender), passes=ADMIT_RAISES
            )
        except PluginFailed as error:
            raise _refusal(error) from error
        return ALLOWED if found is ALLOWED else self._admitted(found)  # nearly always, and at once

    async def _admitted(self, found: object) -> Decision:
        try:
            if hasattr(found, "__await__"):
                asked = cast("Awaitable[Decision]", found)
                found = await self._guard.call(self._plugin, self._admission, lambda: asked, passes=ADMIT_RAISES)
            return self._decision("admit", found)
        except PluginFailed as error:
            raise _refusal(error) from error

    async def permit(self, call: Call, policy: Json | None) -> Decision:
        """As :meth:`Authorization.permit`."""
        what = self._what("permit")
        try:
            found = self._guard.begin(self._plugin, what, lambda: self.part.permit(call, policy))
            if found is ALLOWED:  # nearly always, and at once
                return ALLOWED
            decision: object = found
            if hasattr(found, "__await__"):
                asked = cast("Awaitable[Decision]", found)
                decision = await self._guard.call(self._plugin, what, lambda: asked)
            return self._decision("permit", decision)
        except PluginFailed as error:
            return Decision(False, "failed", error.message)

    def _decision(self, method: str, decision: object) -> Decision:
        """A well-formed decision; a reason that is no short word for metrics is ``other``."""
        if decision is ALLOWED:
            return ALLOWED
        if not (
            isinstance(decision, Decision)
            and isinstance(decision.allowed, bool)
            and isinstance(decision.reason, str)
            and isinstance(decision.explanation, str)
        ):
            raise self._wrong(method, decision)
        if decision.allowed:
            return ALLOWED
        reason = decision.reason or "authorization"
        return Decision(
            False,
            reason if REASON.fullmatch(reason) else "other",
            decision.explanation[:EXPLANATION_CHARACTERS_MAX],
        )

    @property
    def version(self) -> int:
        """As :attr:`Trust.version`; 0 if it fails."""
        return self._guard.ask(self._plugin, self._what("version"), lambda: int(self.part.version), 0)

    def weight(self, peer: PeerId) -> int:
        """As :meth:`Trust.weight`; 0 if it fails."""
        return self._guard.ask(self._plugin, self._what("weight"), lambda: max(0, int(self.part.weight(peer))), 0)

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        """As :meth:`Trust.prove`; None if it fails."""
        proof = self._guard.ask(
            self._plugin, self._what("prove"), lambda: self.part.prove(owner, provider, length_max=length_max), None
        )
        if not (proof is None or isinstance(proof, bytes)):
            self._wrong("prove", proof)
            return None
        return proof

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        """As :meth:`Trust.proves`; False if it fails."""
        return self._guard.ask(
            self._plugin,
            self._what("proves"),
            lambda: self.part.proves(proof, owner, provider, length_max=length_max) is True,
            False,
        )


class GuardedExecution(_Seat[Execution]):
    """The execution; one that fails has no services. Its calls have the limits of services (``services/dispatcher.py``)."""

    async def call(self, call: Call, *, timeout_s: float) -> Json:
        """As :meth:`Execution.call`, with a deadline in seconds.

        Raises:
            ServiceError: as the service raised it. PluginFailed: it raised anything else, or its deadline passed.
        """
        return await self._guard.call(
            self._plugin,
            f"{call.service[:80]}.{call.function[:80]}",
            lambda: self.part.call(call),
            timeout_s=timeout_s,
            passes=(ServiceError,),
        )

    def services(self) -> Mapping[str, Sequence[str]]:
        """As :meth:`Execution.services`; none if it fails."""
        return self._guard.ask(self._plugin, self._what("services"), lambda: _functions(self.part.services()), {})

    def functions_of(self, service: str) -> Sequence[str] | None:
        """As :meth:`Execution.functions_of`; None if it fails."""

        def asked() -> Sequence[str] | None:
            found = self.part.functions_of(service)
            return None if found is None else _all(str, found)

        return self._guard.ask(self._plugin, self._what("functions_of"), asked, None)

    def policy(self, service: str) -> Json | None:
        """As :meth:`Execution.policy`.

        Raises:
            PluginFailed: it failed. The service must not be called then, because its policy is unknown.
        """
        return self._guard.run(self._plugin, self._what("policy"), lambda: self.part.policy(service))

    def price(self, service: str) -> int:
        """As :meth:`Execution.price`.

        Raises:
            PluginFailed: it failed. The service must not be called then, because its price is unknown.
        """
        price = self._guard.run(self._plugin, self._what("price"), lambda: self.part.price(service))
        if type(price) is not int or price < 0:
            raise self._wrong("price", price)
        return price


def _functions(services: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Service ids with the names of their functions; raises TypeError if something else stands there."""
    return {_all(str, [service])[0]: _all(str, functions) for service, functions in services.items()}


class GuardedConsensus(_Seat[Consensus]):
    """The consensus, which is the port ``ledger``; one that fails has no blocks and takes no transactions."""

    def view(self) -> View:
        """As :meth:`Ledger.view`; without blocks if it fails."""
        view = self._guard.ask(self._plugin, self._what("view"), lambda: self.part.view(), NO_BLOCKS)
        if not isinstance(getattr(view, "height", None), int):
            self._wrong("view", view)
            return NO_BLOCKS
        return view

    async def submit(self, transaction: bytes) -> None:
        """As :meth:`Ledger.submit`."""
        try:
            await self._guard.call(
                self._plugin, self._what("submit"), lambda: self.part.submit(transaction), passes=(Refused,)
            )
        except PluginFailed as error:
            raise Refused(error.message, reason="broken", hint=error.hint) from error
