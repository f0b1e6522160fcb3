"""The keys of ``[authorization]`` next to ``kind = "trust_graph"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from fluvial.identity import PeerId
from fluvial.suggestions import did_you_mean
from msgspec import Meta

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.policy.perimeters import Perimeter, PerimeterTable, checked
from fluvial_trust_graph.policy.rules import CallRule, CallRules, FlowRule, FlowRules, keys_in

ANYONE: FlowRules = (FlowRule(anyone=True),)


class TrustGraphOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of authorization ``trust_graph``; docs/trust.md explains them."""

    owners: Annotated[
        tuple[str, ...],
        Meta(
            description="peers that may do here whatever this peer itself may: change it, deploy services, run flows, whatever the rules say; "
            "closed by default: functions that change the peer (dist, srv, trust.issue …) answer to the peer itself and to these",
            extra={
                "lines": (
                    (
                        'owners = ["12D3KooW…"]',
                        "To administer the peer from outside, name the peer id of your own key (`fluvial call --key FILE`):",
                    ),
                )
            },
        ),
    ] = ()
    roots: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=EXPONENT_MAX)]],
        Meta(
            description="whom you trust by decree, with exponents: a root of exponent 5 weighs 2^5 = 32, and its chains may have 5 links",
            extra={
                "lines": (
                    (
                        'roots = {"12D3KooW…" = 5}',
                        "To have those count whom somebody you know trusts, directly or through others:",
                    ),
                )
            },
        ),
    ] = {}
    own_exponent: Annotated[
        int, Meta(ge=0, le=EXPONENT_MAX, description="this peer as a root: what its own statements are worth to it")
    ] = 8
    admit: Annotated[
        FlowRules,
        Meta(
            description="whose flows run here: whoever meets one of these rules, and owners; [] for owners alone",
            extra={
                "lines": (
                    (
                        "admit = [{weight = 4}]",
                        "Peers of weight 4 and more, that is those whom your roots trust nearly directly:",
                    ),
                    (
                        'admit = [{certificate = {from = "12D3KooW…", depth = 1}}]',
                        "Users to whom the developer of your application has issued a certificate; nobody need introduce them:",
                    ),
                    ('admit = [{perimeter = "home"}]', "Members of a perimeter:"),
                )
            },
        ),
    ] = ANYONE
    services: Annotated[
        dict[str, dict[str, CallRules]],
        Meta(
            description="who may call what, by service and function; * stands for all others. What changes this peer is closed until it is named here; "
            "all else may be called by those whose flows run here",
            extra={
                "lines": (
                    ('services.dist."*" = [{peers = ["12D3KooW…"]}]', "To let a developer deploy modules here:"),
                    (
                        'services.chat.message = [{perimeter = "home", inputs = "home"}]',
                        "A service of yours, only for members, and only with input that is theirs or comes from inside:",
                    ),
                    (
                        'services.chat.post = [{anyone = true, arguments = [{at = 0, from = "auth.check", on = ["perimeter:home"], equals = true}]}]',
                        "Everybody, if the first argument is what auth.check on a peer of the perimeter has answered:",
                    ),
                    (
                        'services."*"."*" = [{weight = 1}]',
                        "All functions that no other line names, the harmless built-in ones included, for peers with weight alone:",
                    ),
                )
            },
        ),
    ] = {}
    perimeters: Annotated[
        dict[str, PerimeterTable],
        Meta(
            description="named sets of peers, services and flows that rules refer to",
            extra={
                "lines": (
                    (
                        'perimeters.home = {peers = ["12D3KooW…"], services = ["auth", "chat"], authors = ["12D3KooW…"]}',
                        "The services auth and chat of one peer, and whose flows are members:",
                    ),
                )
            },
        ),
    ] = {}
    perimeters_file: Annotated[
        str, Meta(description="a TOML file of further perimeters, read again when it changes; empty for none")
    ] = ""
    statements_max: Annotated[int, Meta(ge=100, le=2_000_000, description="statements that are kept, in all")] = 200_000
    issuer_max: Annotated[int, Meta(ge=1, description="of them, by one issuer")] = 20_000
    waiting_max: Annotated[
        int, Meta(ge=0, le=100_000, description="statements of issuers without weight that wait, in memory")
    ] = 2_000
    waiting_issuer_max: Annotated[int, Meta(ge=1, description="of them, by one issuer")] = 8
    waiting_sender_max: Annotated[int, Meta(ge=1, description="of them, from one sender")] = 256
    sender_per_s: Annotated[
        float, Meta(gt=0, description="statements that one sender may hand over in a second, on average")
    ] = 100.0
    sender_burst: Annotated[int, Meta(ge=1, description="statements that it may hand over at once")] = 2_000
    gossip_s: Annotated[
        float, Meta(gt=0, description="how often statements are compared with another peer, in seconds")
    ] = 10.0
    keep_expired_s: Annotated[
        int,
        Meta(
            ge=0,
            description="how long an expired trust still stands against older statements of its issuer, in seconds",
        ),
    ] = 2_592_000
    keep_weightless_s: Annotated[
        int, Meta(ge=0, description="how long statements of an issuer that has lost its weight are kept, in seconds")
    ] = 86_400

    def __post_init__(self) -> None:
        """Refuse what is no peer id, and rules about perimeters that are not there."""
        for peer in (*self.owners, *self.roots):
            PeerId.parse(peer)
        listed = self.listed_perimeters()
        if self.perimeters_file:
            return  # its perimeters are known when it is read
        for where, name in self.mentioned():
            if name not in listed:
                known = did_you_mean(name, listed) or f"there are: {', '.join(sorted(listed)) or 'none'}"
                raise ValueError(f"{where} mentions perimeter {name!r}, which is not there; {known}")

    def listed_perimeters(self) -> Mapping[str, Perimeter]:
        """Those of the settings, checked; raises ValueError."""
        return {name: checked(name, table) for name, table in self.perimeters.items()}

    def mentioned(self) -> Iterator[tuple[str, str]]:
        """Where rules mention perimeters, and which."""
        for where, rules in self.lists():
            for rule in rules:
                yield from ((where, name) for name in sorted(rule.perimeters))

    def lists(self) -> Iterator[tuple[str, Sequence[FlowRule]]]:
        """All lists of rules, with their names."""
        yield "authorization.admit", self.admit
        for service, functions in self.services.items():
            for function, rules in functions.items():
                yield f'authorization.services."{service}"."{function}"', rules

    def keys(self, perimeters: Mapping[str, Perimeter]) -> Mapping[PeerId, int]:
        """The issuers of certificates that rules and perimeters mention, with the greatest depth."""
        found = dict(keys_in(rule for _, rules in self.lists() for rule in rules))
        for perimeter in perimeters.values():
            for key, links in perimeter.keys.items():
                found[key] = max(found.get(key, 0), links)
        return found

    def rules_for(self, service: str, function: str) -> tuple[str, Sequence[CallRule]] | None:
        """The name and the rules of the list about exactly this function or service; None if there is none."""
        functions = self.services.get(service, {})
        for name in (function, "*"):
            if name in functions:
                return f"authorization.services.{service}.{name}", functions[name]
        return None
