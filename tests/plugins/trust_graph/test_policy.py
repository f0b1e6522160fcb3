"""Rules: how they are written, what they decide, and what they say."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from fluvial.effectors import Call, Tetraplet
from fluvial.errors import ConfigError
from fluvial.identity import PeerId
from fluvial.seats import Decision
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.policy.deciding import AskedFlow, Decider
from fluvial_trust_graph.policy.passing import PASSING_SERVICES
from fluvial_trust_graph.policy.perimeters import ListedPerimeters, Perimeter, PerimeterTable, checked, read_perimeters
from fluvial_trust_graph.policy.rules import CallRule, FlowRule, read_policy

from tests.plugins.trust_graph.worlds import keys_of

ME, ADA, BOB, EVE, KEY = (keys_of(name).peer_id for name in ("me", "ada", "bob", "eve", "key"))
SCRIPT = bytes(range(32))


class Known:
    """What is known, as a test has it."""

    def __init__(
        self,
        weights: Mapping[PeerId, int] = {},
        certified: Sequence[tuple[PeerId, PeerId, int, str]] = (),
        revoked: Sequence[tuple[PeerId, PeerId]] = (),
    ) -> None:
        self.weights = weights
        self.certified = certified
        self.revoked = revoked

    def weight_of(self, flow: AskedFlow, scope: str) -> int:
        return self.weights.get(flow.initiator, 0)

    def is_certified(self, flow: AskedFlow, key: PeerId, depth: int, scope: str) -> bool:
        return any(
            (flow.initiator, key, scope) == (who, by, what) and depth >= links
            for who, by, links, what in self.certified
        )

    def has_revoked(self, flow: AskedFlow, key: PeerId) -> bool:
        return (flow.initiator, key) in self.revoked


HOME = checked(
    "home",
    PerimeterTable(
        peers=(BOB,), services=("auth", "chat"), authors=(ADA,), scripts=(SCRIPT.hex(),), keys={str(KEY): 2}
    ),
)


def decider(**known: Any) -> Decider:
    return Decider(ME, ListedPerimeters({"home": HOME}), Known(**known))


def call(initiator: PeerId, *origins: Sequence[Tetraplet], arguments: Sequence[Any] | None = None) -> Call:
    values = ["x"] * len(origins) if arguments is None else arguments
    return Call(
        particle_id="p", initiator=initiator, service="s", function="f", arguments=values, tetraplets=list(origins)
    )


def rule(**fields: Any) -> CallRule:
    return msgspec.convert(fields, CallRule)


def decide(given: Sequence[CallRule], asked: Call, **known: Any) -> Decision:
    return decider(**known).call(given, asked, what="here")


LITERAL = (Tetraplet(str(ADA)),)
INSIDE = (Tetraplet(str(BOB), "auth", "check"),)
OUTSIDE = (Tetraplet(str(EVE), "auth", "check"),)
PASSED_ON = (Tetraplet(str(BOB), "op", "identity"),)


@pytest.mark.parametrize(
    ("given", "known", "reason"),
    [
        ({"anyone": True}, {}, ""),
        ({"peers": [ADA]}, {}, ""),
        ({"peers": [BOB]}, {}, "peers"),
        ({"weight": 4}, {"weights": {ADA: 4}}, ""),
        ({"weight": 4}, {"weights": {ADA: 3}}, "weight"),
        ({"certificate": {"from": KEY, "depth": 2}}, {"certified": [(ADA, KEY, 2, "")]}, ""),
        ({"certificate": {"from": KEY, "depth": 1}}, {"certified": [(ADA, KEY, 2, "")]}, "certificate"),
        ({"certificate": {"from": KEY, "scope": "dht"}}, {"certified": [(ADA, KEY, 1, "")]}, "certificate"),
        ({"perimeter": "home"}, {}, ""),
        ({"perimeter": "elsewhere"}, {}, "perimeter"),
        ({"peers": [ADA], "weight": 1}, {}, "weight"),
    ],
)
def test_conditions_about_the_initiator(given: dict[str, Any], known: dict[str, Any], reason: str) -> None:
    decision = decide([rule(**given)], call(ADA), **known)
    assert (decision.allowed, decision.reason) == (not reason, reason)
    assert bool(decision.explanation) == bool(reason)


@pytest.mark.parametrize("given", [{"certificate": {"from": KEY}}, {"perimeter": "home"}])
def test_a_refusal_says_who_has_revoked_the_initiator(given: dict[str, Any]) -> None:
    assert f"{KEY} has revoked it" in decide([rule(**given)], call(EVE), revoked=[(EVE, KEY)]).explanation
    assert "revoked" not in decide([rule(**given)], call(EVE), revoked=[(EVE, BOB), (ADA, KEY)]).explanation


def test_members_of_a_perimeter() -> None:
    member = decider(certified=[(EVE, KEY, 2, "perimeter:home")])
    assert member.is_member("home", AskedFlow(initiator=ADA, script_hash=b"", credentials=()))
    assert member.is_member("home", AskedFlow(initiator=EVE, script_hash=b"", credentials=())), "by certificate"
    assert member.is_member("home", AskedFlow(initiator=BOB, script_hash=SCRIPT, credentials=())), "by script"
    assert not member.is_member("home", AskedFlow(initiator=BOB, script_hash=b"", credentials=())), (
        "its peers are no members"
    )


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ([], True),
        ([LITERAL], True),
        ([INSIDE], True),
        ([LITERAL, INSIDE], True),
        ([OUTSIDE], False),
        ([INSIDE, OUTSIDE], False),
        ([PASSED_ON], False),
        ([(*INSIDE, *OUTSIDE)], False),
        ([()], False),
        ([(Tetraplet(str(ADA), "any", "thing"),)], True),
    ],
)
def test_inside_of_a_perimeter_input_counts_like_the_user_s_own(origins: list[Any], allowed: bool) -> None:
    decision = decide([rule(anyone=True, inputs="home")], call(ADA, *origins))
    assert decision.allowed is allowed
    assert allowed or decision.reason == "provenance"


def test_an_argument_without_provenance_is_from_nowhere() -> None:
    asked = Call(particle_id="p", initiator=ADA, service="s", function="f", arguments=["x"])
    assert not decide([rule(anyone=True, inputs="home")], asked).allowed


AT_0 = {"at": 0, "from": "auth.check", "on": ["perimeter:home"]}


@pytest.mark.parametrize(
    ("wanted", "origins", "arguments", "allowed"),
    [
        (AT_0, [INSIDE], ["x"], True),
        (AT_0, [OUTSIDE], ["x"], False),
        (AT_0, [LITERAL], ["x"], False),
        (AT_0, [(Tetraplet(str(BOB), "chat", "check"),)], ["x"], False),
        (AT_0, [(Tetraplet(str(BOB), "auth", "other"),)], ["x"], False),
        (AT_0, [(Tetraplet(str(BOB), "auth", "check", ".$.other"),)], ["x"], False),
        (AT_0 | {"lens": "*"}, [(Tetraplet(str(BOB), "auth", "check", ".$.other"),)], ["x"], True),
        (AT_0 | {"from": "auth.*"}, [(Tetraplet(str(BOB), "auth", "other"),)], ["x"], True),
        (AT_0 | {"equals": True}, [INSIDE], [True], True),
        (AT_0 | {"equals": True}, [INSIDE], [1], False),
        (AT_0 | {"equals": {"ok": [True]}}, [INSIDE], [{"ok": [1]}], False),
        (AT_0 | {"at": 1}, [INSIDE], ["x"], False),
        (AT_0 | {"at": "each"}, [INSIDE, INSIDE], ["x", "y"], True),
        (AT_0 | {"at": "each"}, [INSIDE, OUTSIDE], ["x", "y"], False),
        ({"at": 0, "on": ["initiator"]}, [LITERAL], ["x"], True),
        ({"at": 0, "on": ["initiator"]}, [INSIDE], ["x"], False),
        ({"at": 0, "from": "clock.now", "on": ["here"]}, [(Tetraplet(str(ME), "clock", "now"),)], [1], True),
        (AT_0, [()], [[]], False),
    ],
)
def test_provenance_of_a_named_argument(wanted: Any, origins: list[Any], arguments: list[Any], allowed: bool) -> None:
    asked = call(ADA, *origins, arguments=arguments)
    assert decide([rule(anyone=True, arguments=[wanted])], asked).allowed is allowed


def test_one_rule_of_several_is_enough_and_all_are_explained() -> None:
    rules = [rule(peers=[BOB]), rule(weight=2)]
    assert decide(rules, call(ADA), weights={ADA: 2}).allowed
    decision = decide(rules, call(EVE))
    assert decision.explanation.startswith("here does not let this in: rule 1: ")
    assert "rule 2: " in decision.explanation
    assert decide([], call(ADA)) == Decision(False, "closed", "here lets only the owners in")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "whom it lets in"),
        ({"anyone": True, "peers": [ADA]}, "take one of them out"),
        ({"peers": ["bob"]}, "bob"),
        ({"weight": 0}, ">= 1"),
        ({"scope": "dht", "anyone": True}, "without a `weight`"),
        ({"weight": 1, "scope": "No"}, "is no scope"),
        ({"certificate": {"from": "x"}}, "x"),
        ({"certificate": {"from": ADA, "depth": 17}}, "<= 16"),
        ({"anyon": True}, "anyon"),
        ({"anyone": True, "arguments": [{"at": 0, "on": []}]}, "length >= 1"),
        ({"anyone": True, "arguments": [{"at": 0, "on": ["there"]}]}, "there"),
        ({"anyone": True, "arguments": [{"at": 0, "on": ["here"], "from": "check"}]}, "is no call"),
        ({"anyone": True, "arguments": [{"at": -1, "on": ["here"]}]}, "at"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(fields, CallRule)


def test_a_rule_about_flows_knows_no_arguments() -> None:
    with pytest.raises(msgspec.ValidationError, match="arguments"):
        msgspec.convert({"anyone": True, "arguments": []}, FlowRule)


def test_policies_of_deployments() -> None:
    assert read_policy([{"anyone": True}]) == {"*": (rule(anyone=True),)}
    assert read_policy({"f": [], "*": [{"weight": 1}]})["f"] == ()
    for wrong in (None, True, 7, "anybody", {"f": True}, {"f": [{}]}, [[]]):
        with pytest.raises(ValueError, match="no policy"):
            read_policy(wrong)


def test_options_mention_only_perimeters_that_are_there() -> None:
    with pytest.raises(msgspec.ValidationError, match="perimeter 'hom', which is not there"):
        msgspec.convert({"admit": [{"perimeter": "hom"}], "perimeters": {"home": {}}}, TrustGraphOptions)
    found = msgspec.convert(
        {"admit": [{"perimeter": "home"}], "perimeters": {"home": {"keys": {str(KEY): 3}}}}, TrustGraphOptions
    )
    assert found.keys(found.listed_perimeters()) == {KEY: 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[home", "Expected"),
        ('[home]\npeers = ["x"]', "x"),
        ('[home]\nscripts = ["00"]', "64 hexadecimal digits"),
        ('[home]\nservices = ["*"]', "name each service"),
        ('[home]\nservices = ["chat", "op"]', "`op` cannot be inside: it hands on"),
        ("[home]\nmembers = []", "members"),
        ("home = 1", "home"),
        ("\xff", "can't decode"),
    ],
)
def test_files_of_perimeters_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_perimeters(text.encode("latin-1"), where="perimeters.toml")


@pytest.mark.parametrize("service", sorted(PASSING_SERVICES))
def test_settings_refuse_a_perimeter_with_a_service_that_hands_on_what_it_gets(service: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"`{service}` cannot be inside: it hands on"):
        msgspec.convert({"perimeters": {"home": {"services": ["chat", service]}}}, TrustGraphOptions)


@pytest.mark.parametrize("call", ["op.identity", "op.*", "json.parse", "peer.timeout"])
def test_rules_refuse_to_want_an_argument_from_what_hands_on_what_it_gets(call: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="says nothing about an argument"):
        rule(anyone=True, arguments=[{"at": 0, "from": call, "on": ["here"]}])
    assert rule(anyone=True, arguments=[{"at": 0, "from": call, "on": ["initiator"]}])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (Tetraplet(str(ME), "auth", "check"), True),
        (Tetraplet(str(ME), "op", "identity"), False),
        (Tetraplet(str(ME), "peer", "timestamp_sec"), True),
        (Tetraplet(str(ME), "peer", "timeout"), False),
        (Tetraplet(str(ADA), "op", "identity"), True),
    ],
)
def test_a_result_that_is_only_handed_on_was_made_nowhere_but_at_the_initiator(
    origin: Tetraplet, allowed: bool
) -> None:
    given = rule(anyone=True, arguments=[{"at": 0, "on": ["here", "initiator"]}])
    assert decide([given], call(ADA, (origin,))).allowed is allowed


def test_a_perimeter_that_a_ledger_lists_with_the_peer_service_does_not_count_its_timers() -> None:
    home = Perimeter(name="home", peers=frozenset((BOB,)), services=frozenset(("peer", "op")))
    decider = Decider(ME, ListedPerimeters({"home": home}), Known())
    asked = [(Tetraplet(str(BOB), *made),) for made in (("peer", "identify"), ("peer", "timeout"), ("op", "identity"))]
    given = [rule(anyone=True, inputs="home")]
    assert [decider.call(given, call(ADA, one), what="here").allowed for one in asked] == [True, False, False]


def test_a_file_of_perimeters() -> None:
    (found,) = read_perimeters(f'[home]\npeers = ["{BOB}"]\nservices = ["chat"]'.encode(), where="here").values()
    assert found.made(BOB, "chat", "post")
    assert not found.made(BOB, "auth", "check")


def test_what_init_suggests_can_be_used_as_it_stands() -> None:
    """Each line that the settings file suggests is a setting, once a peer id stands where it says so."""
    lines = [
        line for kind in get_type_hints(TrustGraphOptions, include_extras=True).values() for line in suggested(kind)
    ]
    assert len(lines) >= 8
    perimeter = next(line for line in lines if line.startswith("perimeters."))
    for line in lines:
        text = line if line == perimeter else f"{perimeter}\n{line}"
        found = msgspec.convert(tomllib.loads(text.replace("12D3KooW…", ADA)), TrustGraphOptions)
        assert found != TrustGraphOptions(), line


def suggested(kind: Any) -> list[str]:
    metas = (
        [meta for meta in get_args(kind)[1:] if isinstance(meta, msgspec.Meta)] if get_origin(kind) is Annotated else []
    )
    return [line for meta in metas for line, _ in (meta.extra or {}).get("lines", ())]
