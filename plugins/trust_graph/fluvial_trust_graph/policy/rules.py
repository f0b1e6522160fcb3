"""Rules as data: who may run flows, who may call a function, and where its arguments must come from.

A rule holds if all of its conditions hold; a list of rules lets in whoever meets one of them. An empty list lets nobody in. The same forms
stand in the settings and in a service's deployment. docs/trust.md explains each with an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from fluvial.identity import PeerId
from msgspec import UNSET, Meta, UnsetType

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.policy.passing import hands_on
from fluvial_trust_graph.statements import check_scope

RULES_MAX: Final = 64
"""Of one list."""
FUNCTIONS_MAX: Final = 1_000
ANY_FUNCTION: Final = "*"
ANY_LENS: Final = "*"
PERIMETER: Final = "perimeter:"


class CertificateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The initiator holds a certificate: a chain of trusts from a key."""

    from_: Annotated[str, Meta(description="peer id of the issuer; it must have signed itself")] = msgspec.field(
        name="from"
    )
    depth: Annotated[int, Meta(ge=1, le=EXPONENT_MAX, description="how many links the chain may have")] = 1
    scope: Annotated[str, Meta(description="what the certificate must be good for; empty for everything")] = ""

    def __post_init__(self) -> None:
        """Refuse what is no peer id or no scope."""
        PeerId.parse(self.from_)
        _check_scope(self.scope)


class ArgumentRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An argument comes from where it should."""

    at: Annotated[int, Meta(ge=0)] | Literal["each"]
    on: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description='where it was made: a peer id, "here", "initiator" or "perimeter:NAME"'),
    ]
    from_: Annotated[
        str, Meta(description='the call that made it: "service.function" or "service.*"; empty for whatever')
    ] = msgspec.field(name="from", default="")
    lens: Annotated[str, Meta(description='which part of the result it is; empty for all of it, "*" for whatever')] = ""
    equals: Any | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse a place or a call that is none."""
        for place in self.on:
            if place not in ("here", "initiator") and not place.startswith(PERIMETER):
                PeerId.parse(place)
        service, dot, function = self.from_.partition(".") if self.from_.count(".") < 2 else self.from_.rpartition(".")
        if self.from_ and not (service and dot and function):
            raise ValueError(f'{self.from_[:80]!r} is no call: write "service.function" or "service.*"')
        if hands_on(service, function) and self.on != ("initiator",):
            raise ValueError(
                f"{self.from_[:80]!r} says nothing about an argument: it hands on what it gets from anybody; name the call that made the value"
            )

    @property
    def call(self) -> tuple[str, str] | None:
        """Service and function; None for whatever."""
        service, _, function = self.from_.rpartition(".")
        return (service, function) if self.from_ else None


class FlowRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Conditions about who began a flow, and about the flow."""

    anyone: Annotated[bool, Meta(description="everybody")] = False
    peers: Annotated[tuple[str, ...], Meta(description="the initiator is one of these")] = ()
    weight: Annotated[int, Meta(ge=1, description="the initiator weighs at least so much")] | None = None
    scope: Annotated[
        str, Meta(description="what the trusts behind that weight must be good for; empty for everything")
    ] = ""
    certificate: CertificateRule | None = None
    perimeter: Annotated[str, Meta(description="the flow is a member of this perimeter")] = ""

    def __post_init__(self) -> None:
        """Refuse a rule without a condition, and conditions that contradict each other."""
        for peer in self.peers:
            PeerId.parse(peer)
        _check_scope(self.scope)
        others = bool(self.peers or self.weight is not None or self.certificate or self.perimeter)
        if self.anyone and others:
            raise ValueError("a rule says `anyone` and whom: take one of them out")
        if self.scope and self.weight is None:
            raise ValueError("a rule has a `scope` without a `weight`; that of a certificate stands in its own table")
        if not self.anyone and not others:
            raise ValueError("a rule does not say whom it lets in: write `anyone = true` if that is meant")

    @property
    def perimeters(self) -> frozenset[str]:
        """The names of the perimeters that it mentions."""
        return frozenset({self.perimeter} if self.perimeter else ())


class CallRule(FlowRule, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Conditions about a call: as for a flow, and about its arguments."""

    inputs: Annotated[
        str, Meta(description="each argument is the initiator's own, or comes from a service inside of this perimeter")
    ] = ""
    arguments: Annotated[tuple[ArgumentRule, ...], Meta(description="where arguments must come from")] = ()

    @property
    def perimeters(self) -> frozenset[str]:
        """The names of the perimeters that it mentions."""
        places = (place for rule in self.arguments for place in rule.on)
        named = (place.removeprefix(PERIMETER) for place in places if place.startswith(PERIMETER))
        return frozenset(filter(None, (self.perimeter, self.inputs, *named)))


FlowRules: TypeAlias = Annotated[tuple[FlowRule, ...], Meta(max_length=RULES_MAX)]
CallRules: TypeAlias = Annotated[tuple[CallRule, ...], Meta(max_length=RULES_MAX)]
ServicePolicy: TypeAlias = Mapping[str, Sequence[CallRule]]
"""By function; ``*`` for those that are not named."""


def read_policy(policy: Any) -> ServicePolicy:
    """What a service's deployment asks for: a list of rules for all of its functions, or an object of lists by function.

    Raises:
        ValueError: it is neither; the message says what is wrong and where.
    """
    given = {ANY_FUNCTION: policy} if isinstance(policy, list | tuple) else policy
    try:
        found: ServicePolicy = msgspec.convert(given, Annotated[dict[str, CallRules], Meta(max_length=FUNCTIONS_MAX)])
    except msgspec.ValidationError as error:
        raise ValueError(f"this is no policy: {error}") from error
    return found


def keys_in(rules: Iterable[FlowRule]) -> Mapping[PeerId, int]:
    """The issuers of certificates that rules mention, with the greatest depth."""
    found: dict[PeerId, int] = {}
    for rule in rules:
        if rule.certificate is not None:
            key = PeerId.parse(rule.certificate.from_)
            found[key] = max(found.get(key, 0), rule.certificate.depth)
    return found


def _check_scope(scope: str) -> None:
    if scope:
        check_scope(scope)
