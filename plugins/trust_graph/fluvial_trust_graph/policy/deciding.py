"""The decision: which rule lets somebody in, or what each of them lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec
from fluvial.effectors import Call, Tetraplet
from fluvial.identity import PeerId
from fluvial.seats import ALLOWED, Decision
from msgspec import UNSET

from fluvial_trust_graph.policy.passing import hands_on
from fluvial_trust_graph.policy.perimeters import Perimeter, Perimeters
from fluvial_trust_graph.policy.rules import ANY_FUNCTION, ANY_LENS, PERIMETER, ArgumentRule, CallRule, FlowRule

CLOSED: Final = "closed"
"""The reason where no rule lets anybody in; the other reasons are the names of the conditions that are not met."""
SHOWN_MAX: Final = 4
"""Rules that an explanation names."""


class AskedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about, as far as it is known at once.

    Args:
        initiator: who began it.
        script_hash: SHA-256 of its script.
        credentials: what the initiator shows.
    """

    initiator: PeerId
    script_hash: bytes
    credentials: Sequence[bytes]


class InitiatorKnowledge(Protocol):
    """What is known of the initiator of a flow, with the credentials that it carries taken in."""

    def weight_of(self, flow: AskedFlow, scope: str) -> int:
        """Its weight, counting only trusts that are good for a scope."""
        ...

    def is_certified(self, flow: AskedFlow, key: PeerId, depth: int, scope: str) -> bool:
        """Whether a chain of at most so many links, good for a scope, leads to it from a key."""
        ...

    def has_revoked(self, flow: AskedFlow, key: PeerId) -> bool:
        """Whether the newest that a key has said of it is a revocation."""
        ...


class Lack(msgspec.Struct, frozen=True):
    """A condition that is not met: its name, and a sentence."""

    condition: str
    text: str


class Decider:
    """Decides by rules.

    Args:
        me: the peer that asks.
        perimeters: those that the rules mention.
        evidence: what is known of initiators.
    """

    def __init__(self, me: PeerId, perimeters: Perimeters, evidence: InitiatorKnowledge) -> None:
        self._me = me
        self._perimeters = perimeters
        self._evidence = evidence

    def flow(self, rules: Sequence[FlowRule], flow: AskedFlow, *, what: str) -> Decision:
        """Whether rules let a flow in.

        Args:
            rules: one of them must hold.
            flow: which.
            what: names the rules in explanations: ``authorization.admit``.
        """
        return _decision([(rule, self._flow_lacks(rule, flow)) for rule in rules], what)

    def call(self, rules: Sequence[CallRule], call: Call, *, what: str) -> Decision:
        """Whether rules let a call be made; as :meth:`flow`."""
        flow = AskedFlow(initiator=call.initiator, script_hash=call.script_hash, credentials=call.credentials)
        lacks = [
            (rule, self._flow_lacks(rule, flow) or self._input_lack(rule, call) or self._argument_lack(rule, call))
            for rule in rules
        ]
        return _decision(lacks, what)

    def _flow_lacks(self, rule: FlowRule, flow: AskedFlow) -> Lack | None:
        one = flow.initiator
        if rule.peers and one not in rule.peers:
            return Lack("peers", f"{one} is not one of {len(rule.peers)} listed peers")
        if rule.weight is not None and (weight := self._evidence.weight_of(flow, rule.scope)) < rule.weight:
            what = f" for {rule.scope}" if rule.scope else ""
            return Lack("weight", f"{one} has weight {weight}{what}, less than {rule.weight}")
        if (wanted := rule.certificate) is not None and not self._evidence.is_certified(
            flow, PeerId.parse(wanted.from_), wanted.depth, wanted.scope
        ):
            what = f" for {wanted.scope}" if wanted.scope else ""
            text = f"{one} has no valid certificate{what} of {wanted.from_} within {wanted.depth} links"
            return Lack("certificate", text + self._revoked(flow, [PeerId.parse(wanted.from_)]))
        if rule.perimeter and not self.is_member(rule.perimeter, flow):
            perimeter = self._perimeters.get(rule.perimeter)
            origin = f" ({perimeter.origin})" if perimeter is not None and perimeter.origin else ""
            revoked = self._revoked(flow, perimeter.keys) if perimeter is not None else ""
            return Lack("perimeter", f"the flow of {one} is no member of perimeter {rule.perimeter}{origin}{revoked}")
        return None

    def _revoked(self, flow: AskedFlow, keys: Iterable[PeerId]) -> str:
        """Who of those that certify has revoked the initiator, as the end of a sentence."""
        revokers = [key for key in keys if self._evidence.has_revoked(flow, key)]
        return f"; {revokers[0]} has revoked it" if revokers else ""

    def is_member(self, name: str, flow: AskedFlow) -> bool:
        """Whether a flow is a member of a perimeter: by its author, its script or a certificate."""
        perimeter = self._perimeters.get(name)
        if perimeter is None:
            return False
        if flow.initiator in perimeter.authors or flow.script_hash in perimeter.scripts:
            return True
        return any(
            self._evidence.is_certified(flow, key, links, perimeter.scope) for key, links in perimeter.keys.items()
        )

    def _input_lack(self, rule: CallRule, call: Call) -> Lack | None:
        if not rule.inputs:
            return None
        perimeter = self._perimeters.get(rule.inputs)
        for at in range(len(call.arguments)):
            origins = _origins(call, at)
            if not origins or not all(_is_inside(one, call.initiator, perimeter) for one in origins):
                return Lack(
                    "provenance",
                    f"argument {at} is neither the initiator's own nor from inside of perimeter {rule.inputs}",
                )
        return None

    def _argument_lack(self, rule: CallRule, call: Call) -> Lack | None:
        for wanted in rule.arguments:
            for at in range(len(call.arguments)) if wanted.at == "each" else (wanted.at,):
                if not self._comes_from(wanted, call, at):
                    where = " or ".join(wanted.on)
                    return Lack("provenance", f"argument {at} does not come from {wanted.from_ or 'a call'} on {where}")
                if wanted.equals is not UNSET and not _same(call.arguments[at], wanted.equals):
                    return Lack("provenance", f"argument {at} does not have the value that it must have")
        return None

    def _comes_from(self, wanted: ArgumentRule, call: Call, at: int) -> bool:
        origins = _origins(call, at)
        return bool(origins) and all(
            any(self._is_on(place, one.peer, call.initiator) for place in wanted.on)
            and (wanted.call is None or _is_of(one, wanted.call))
            and wanted.lens in (ANY_LENS, one.lens)
            and (one.peer == call.initiator or not hands_on(one.service, one.function))
            for one in origins
        )

    def _is_on(self, place: str, peer: str, initiator: PeerId) -> bool:
        if place == "here":
            return peer == self._me
        if place == "initiator":
            return peer == initiator
        if place.startswith(PERIMETER):
            perimeter = self._perimeters.get(place.removeprefix(PERIMETER))
            return perimeter is not None and peer in perimeter.peers
        return peer == place


def _origins(call: Call, at: int) -> Sequence[Tetraplet]:
    return call.tetraplets[at] if at < len(call.tetraplets) and at < len(call.arguments) else ()


def _is_inside(origin: Tetraplet, initiator: PeerId, perimeter: Perimeter | None) -> bool:
    return origin.peer == initiator or (
        perimeter is not None and perimeter.made(origin.peer, origin.service, origin.function)
    )


def _is_of(origin: Tetraplet, call: tuple[str, str]) -> bool:
    service, function = call
    return origin.service == service and function in (ANY_FUNCTION, origin.function)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON values: true is not 1."""
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _decision(judged: Iterable[tuple[FlowRule, Lack | None]], what: str) -> Decision:
    lacks: list[Lack] = []
    for _, lack in judged:
        if lack is None:
            return ALLOWED
        lacks.append(lack)
    if not lacks:
        return Decision(False, CLOSED, f"{what} lets only the owners in")
    if len(lacks) == 1:
        return Decision(False, lacks[0].condition, f"{what} does not let this in: {lacks[0].text}")
    texts = [f"rule {number}: {lack.text}" for number, lack in enumerate(lacks[:SHOWN_MAX], 1)]
    more = f"; and {len(lacks) - SHOWN_MAX} more" if len(lacks) > SHOWN_MAX else ""
    return Decision(False, lacks[-1].condition, f"{what} does not let this in: {'; '.join(texts)}{more}")
