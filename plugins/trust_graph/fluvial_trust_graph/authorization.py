"""Authorization ``trust_graph``: who is served follows from statements of trust and from the owner's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus
from fluvial.effectors import Call
from fluvial.errors import ConfigError, StorageError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.policies import OwnerDelegate, PolicyReader
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Authorization, Contributions, Deciding, Decision, Json

from fluvial_trust_graph.book import TrustBook
from fluvial_trust_graph.intake import ENDS_AT_ONCE
from fluvial_trust_graph.openness import findings_about
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.policy.deciding import AskedFlow, Decider
from fluvial_trust_graph.policy.defaults import is_closed
from fluvial_trust_graph.policy.perimeters import Perimeter, read_perimeters
from fluvial_trust_graph.policy.rules import ANY_FUNCTION, read_policy
from fluvial_trust_graph.proofs import SignedProofs, is_path, prove_path
from fluvial_trust_graph.service import TrustService
from fluvial_trust_graph.shown import ShownTrusts
from fluvial_trust_graph.statements import RevocationStatement, TrustStatement

LOOK_S: Final = 1.0
"""How often time passes in the graph, and the file of perimeters is looked at."""
SWEEP_S: Final = 600.0


class TrustGraphAuthorization(Authorization):
    """Takes the seat.

    Args:
        context: of the part.
        options: its settings.
    """

    def __init__(self, context: Context, options: TrustGraphOptions) -> None:
        self._context = context
        self._options = options
        self.book: Final = TrustBook(context, options)
        self._owners = frozenset((self.book.me, *options.owners))
        self._shown = ShownTrusts(context.network)
        self._signed = SignedProofs(context.network)
        self._decider = Decider(self.book.me, self.book.perimeters, self)
        self._file_seen: tuple[int, int] | None = None

    # --- life

    def contributions(self) -> Contributions:
        """Gossip, the service ``trust``, its health, and a reader of policies for the execution."""
        return Contributions(
            answers=self.book.exchange.answers(),
            services=(TrustService(self.book),),
            health=self._health,
            extensions=(PolicyReader(self.problem_with),),
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Read what is stored, then keep it up with time and with other peers.

        Raises:
            ConfigError: the file of perimeters cannot be used. StorageError: the statements cannot be read.
        """
        self._read_file(required=True)
        await self.book.open()
        async with anyio.create_task_group() as tasks:
            task_status.started()
            tasks.start_soon(self._let_time_pass)
            tasks.start_soon(self.book.exchange.push_news)
            tasks.start_soon(self._gossip)

    async def _let_time_pass(self) -> None:
        swept = anyio.current_time()
        while True:
            await anyio.sleep(LOOK_S)
            await self.book.intake.let_time_pass()
            self._read_file(required=False)
            try:
                await self.book.revocations.follow()
            except StorageError as error:
                self._context.log.error("trust_ledger_failed", error=error.message)
            if anyio.current_time() >= swept + SWEEP_S:
                swept = anyio.current_time()
                try:
                    await self.book.intake.sweep()
                    await self.book.trust_itself()
                    await self.book.revocations.follow(again=True)
                except StorageError as error:
                    self._context.log.error("trust_sweep_failed", error=error.message)

    async def _gossip(self) -> None:
        while True:
            await anyio.sleep(self._options.gossip_s * self._context.rng.uniform(0.75, 1.25))
            try:
                await self.book.exchange.compare()
            except StorageError as error:
                self._context.log.error("trust_gossip_failed", error=error.message)

    # --- the seat

    def admit(self, particle: Particle, sender: PeerId) -> Deciding:
        """Whether the owner's rules let the initiator run flows here."""
        if particle.initiator in self._owners:
            return ALLOWED
        return self._decide(partial(self._admit, particle))

    def permit(self, call: Call, policy: Json | None) -> Deciding:
        """Whether the owner's rules, and those of the service's deployment, let the call be made."""
        return self._decide(partial(self._permit, call, policy))

    def _decide(self, rules: Callable[[], Decision]) -> Deciding:
        """By what is known now: what time has changed, and what is on the ledger."""
        if self.book.revocations.behind or not self.book.trust.advance(self.book.now(), most=ENDS_AT_ONCE):
            return self._decide_behind(rules)
        return rules()

    async def _decide_behind(self, rules: Callable[[], Decision]) -> Decision:
        """After writing revocations down, and taking in that many trusts have ended; a peer that cannot write does not decide."""
        await anyio.lowlevel.checkpoint()
        await self.book.revocations.follow()
        await self.book.intake.let_time_pass()
        return rules()

    def _admit(self, particle: Particle) -> Decision:
        header = particle.header
        flow = AskedFlow(initiator=particle.initiator, script_hash=header.script_hash, credentials=header.credentials)
        decision = self._decider.flow(self._options.admit, flow, what="authorization.admit")
        return decision if decision.allowed or not self._is_delegate(particle.initiator) else ALLOWED

    def _permit(self, call: Call, policy: Json | None) -> Decision:
        decision = self._by_settings(call)
        return self._by_deployment(call, policy) if decision.allowed and policy is not None else decision

    def _is_delegate(self, peer: PeerId) -> bool:
        return any(one.peer() == peer for one in self._context.extensions.all(OwnerDelegate))

    def _by_settings(self, call: Call) -> Decision:
        if call.initiator in self._owners:
            return ALLOWED
        decision = self._by_rules(call)
        return decision if decision.allowed or not self._is_delegate(call.initiator) else ALLOWED

    def _by_rules(self, call: Call) -> Decision:
        found = self._options.rules_for(call.service, call.function)
        if found is None and is_closed(call.service, call.function):
            what = f"authorization.services.{call.service}.{call.function[:80]}"
            return Decision(False, "closed", f"{what} is not opened, so only owners may call it")
        found = found or self._options.rules_for("*", call.function)
        return ALLOWED if found is None else self._decider.call(found[1], call, what=found[0])

    def _by_deployment(self, call: Call, policy: Json) -> Decision:
        what = f"the deployment of {call.service[:80]}"
        try:
            functions = read_policy(policy)
        except ValueError as error:
            return Decision(False, "policy", f"{what} has rules that cannot be read: {error}")
        for name in (call.function, ANY_FUNCTION):
            if name in functions:
                return self._decider.call(functions[name], call, what=f"{what}, {name[:80]},")
        return Decision(False, "closed", f"{what} has no rule for {call.function[:80]}")

    def problem_with(self, policy: Json) -> str:
        """What is wrong with a deployment's policy; empty if it can be used."""
        try:
            functions = read_policy(policy)
        except ValueError as error:
            return str(error)
        mentioned = {name for rules in functions.values() for rule in rules for name in rule.perimeters}
        missing = sorted(mentioned - self.book.perimeters.names())
        return f"there is no perimeter {missing[0]!r} here" if missing else ""

    @property
    def version(self) -> int:
        """Grows with every change of what is known."""
        return self.book.trust.version

    def weight(self, peer: PeerId) -> int:
        """For the scope ``connectivity``."""
        return self.book.trust.weight(peer)

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        """For the scope ``dht``."""
        return prove_path(self.book.trust, owner, provider, length_max=length_max)

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        """For the scope ``dht``."""
        book = self.book
        return is_path(book.trust, proof, owner, provider, length_max=length_max, signed=self._signed, now=book.now())

    # --- the evidence for rules

    def weight_of(self, flow: AskedFlow, scope: str) -> int:
        """The initiator's weight with what the flow shows."""
        return self.book.trust.weight_for(flow.initiator, scope, self._trusts(flow))

    def is_certified(self, flow: AskedFlow, key: PeerId, depth: int, scope: str) -> bool:
        """Whether the initiator holds a certificate, known here or shown."""
        return self.book.trust.is_certified(flow.initiator, key, depth, scope, self._trusts(flow))

    def has_revoked(self, flow: AskedFlow, key: PeerId) -> bool:
        """Whether a key has revoked the initiator, and has not trusted it since."""
        return isinstance(self.book.trust.newest(key, flow.initiator), RevocationStatement)

    def _trusts(self, flow: AskedFlow) -> Sequence[TrustStatement]:
        return self._shown.holding(flow.credentials, self.book.now())

    # --- the file of perimeters

    def _read_file(self, *, required: bool) -> None:
        """Read the file of perimeters if it has changed; one that cannot be read any more leaves them as they are."""
        if not self._options.perimeters_file:
            return
        path = self._context.base_dir / self._options.perimeters_file
        try:
            stat = path.stat()
            seen = stat.st_mtime_ns, stat.st_size
            if seen == self._file_seen:
                return
            self._file_seen = seen
            perimeters = _perimeters(path, self._options)
        except (OSError, ConfigError) as error:
            if required:
                raise ConfigError(f"{path}: the perimeters cannot be read: {error}") from error
            self._context.log.error("perimeters_unreadable", file=str(path), error=str(error))
            return
        self.book.perimeters.replace(perimeters)
        self.book.follow_roots()
        self._context.log.info("perimeters_read", file=str(path), perimeters=len(perimeters))

    def _health(self) -> Iterable[Finding]:
        kept, most, waiting = len(self.book.trust), self._options.statements_max, len(self.book.intake.waiting)
        yield Finding(
            level="warn" if kept >= 0.9 * most else "ok",
            subject="trust",
            text=f"{kept:,} of {most:,} statements kept, {waiting:,} wait for their issuer's weight",
        )
        yield from findings_about(self._options)


def _perimeters(path: Path, options: TrustGraphOptions) -> Mapping[str, Perimeter]:
    found = {**read_perimeters(path.read_bytes(), where=str(path)), **options.listed_perimeters()}
    for where, name in options.mentioned():
        if name not in found:
            raise ConfigError(f"{where} mentions perimeter {name!r}, which is neither in the settings nor in {path}")
    return found
