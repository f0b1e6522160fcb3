"""The conformance kit for authorizations: subclass it, say how yours is built, run pytest.

::

    class TestMembers(AuthorizationConformance):
        @pytest.fixture
        def build(self):
            return lambda context: Members(context, Options(peers=()))
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, Final

import anyio
import msgspec
import pytest

from fluvial.effectors import Call, Tetraplet
from fluvial.particle import CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX, Particle
from fluvial.policies import PolicyReader
from fluvial.seats import Authorization, Deciding, Decision, Json
from fluvial.testing.part import STRANGER, PartConformance, check, peer_of
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import NETWORK, Solo
from fluvial.virtual.clock import EPOCH_MS

REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
LENGTH_MAX: Final = 5
CALL: Final = Call(
    particle_id="conformance", initiator=STRANGER.peer_id, service="weather", function="temperature", arguments=["Oslo"]
)
PARTICLE: Final = Particle.create(
    STRANGER,
    '(call %init_peer_id% ("return" "") [])',
    particle_id="conformance",
    timestamp_ms=EPOCH_MS,
    ttl_ms=60_000,
    max_hops=8,
    network=NETWORK,
)
"""A stranger's."""
POLICIES: Final[Sequence[Json]] = (
    True,
    7,
    "anybody",
    [],
    {},
    {"allow": [1, None]},
    [{}],
    {"*": [{"no such word": 1}]},
    {"": None},
)
"""What deployments may ask for by mistake; none of it may end the authorization."""
CREDENTIALS: Final[tuple[tuple[bytes, ...], ...]] = (
    (b"\0",),
    (b"{}",),
    (b"x" * CREDENTIALS_BYTES_MAX,),
    tuple(bytes([number + 1]) * 300 for number in range(CREDENTIALS_MAX)),
)
"""What initiators may show: whatever bytes they like."""
ORIGINS: Final[Sequence[Sequence[Sequence[Tetraplet]]]] = (
    [],
    [[]],
    [[Tetraplet("")]],
    [[Tetraplet("nobody", "x" * 1000, "", "$$$")]],
    [[], [], []],
)
"""Provenance that does not fit the arguments, or names nobody."""


async def decided(deciding: Deciding) -> Decision:
    """The decision, awaited where it is not there at once."""
    return await deciding if isinstance(deciding, Awaitable) else deciding


class AuthorizationConformance(PartConformance):
    """What every authorization must do, besides what every part must. The one fixture to give is ``build``."""

    kind: ClassVar[PartKind] = "authorization"

    def asked(self, part: Authorization) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The methods that the node awaits, by name."""
        return {
            "admit": lambda: decided(part.admit(PARTICLE, STRANGER.peer_id)),
            "permit": lambda: decided(part.permit(CALL, None)),
        }

    async def test_particles_are_decided_on(self, running: Solo[Authorization]) -> None:
        """A refusal has a short word for metrics, from a closed list, and a text for people."""
        check_decision(await decided(running.part.admit(PARTICLE, STRANGER.peer_id)))
        check_decision(await decided(running.part.admit(PARTICLE, peer_of(1))))

    @pytest.mark.parametrize("policy", [None, True, 7, "anybody", [], {}, {"allow": [1, None]}], ids=repr)
    async def test_calls_are_decided_on(self, running: Solo[Authorization], policy: object) -> None:
        """Also where a deployment asks for what this authorization does not understand: that is a refusal or a yes, no error."""
        check_decision(await decided(running.part.permit(CALL, policy)))

    async def test_a_policy_that_is_not_understood_permits_nothing_that_none_would_not(
        self, running: Solo[Authorization]
    ) -> None:
        """Asking for more never gives more."""
        free = await decided(running.part.permit(CALL, None))
        bound = await decided(running.part.permit(CALL, {"no such word": "conformance"}))
        check(free.allowed or not bound.allowed, "a policy permits a call that would be refused without one")

    async def test_credentials_are_looked_at_with_care(self, running: Solo[Authorization]) -> None:
        """Whatever a stranger shows is decided on, and bytes that mean nothing let nobody in who would be refused without them."""
        bare = await decided(running.part.admit(PARTICLE, STRANGER.peer_id))
        free = await decided(running.part.permit(CALL, None))
        for shown in CREDENTIALS:
            admitted = await decided(running.part.admit(particle_with(shown), STRANGER.peer_id))
            check_decision(admitted)
            check(
                bare.allowed or not admitted.allowed,
                "credentials without meaning admit a particle that is else refused",
            )
            permitted = await decided(running.part.permit(msgspec.structs.replace(CALL, credentials=shown), None))
            check_decision(permitted)
            check(
                free.allowed or not permitted.allowed, "credentials without meaning permit a call that is else refused"
            )

    async def test_any_provenance_is_decided_on(self, running: Solo[Authorization]) -> None:
        """Also where it does not fit the arguments: services and peers are named by scripts, so these are whatever texts."""
        for origins in ORIGINS:
            for name in ("weather", "", "x" * 10_000):
                call = msgspec.structs.replace(CALL, tetraplets=origins, service=name, function=name)
                check_decision(await decided(running.part.permit(call, None)))

    async def test_what_it_says_of_policies_is_what_it_does(self, running: Solo[Authorization]) -> None:
        """Where it gives a reader of policies: a policy with a problem lets nobody call."""
        for reader in (one for one in running.given.extensions if isinstance(one, PolicyReader)):
            for policy in POLICIES:
                problem = reader.problem_with(policy)
                check(isinstance(problem, str), f"problem_with() returned {problem!r}")
                decision = await decided(running.part.permit(CALL, policy))
                check(not (problem and decision.allowed), f"it permits a call under {policy!r}, although: {problem}")

    async def test_strangers_have_no_weight(self, running: Solo[Authorization]) -> None:
        """Weights are whole numbers, answered at once; nobody knows the kit's stranger."""
        for peer in (STRANGER.peer_id, running.peer):
            weight = running.part.weight(peer)
            check(isinstance(weight, int) and weight >= 0, f"weight() returned {weight!r}")
        check(running.part.weight(STRANGER.peer_id) == 0, "a stranger has a weight")

    async def test_the_version_never_goes_back(self, running: Solo[Authorization]) -> None:
        """Others compare it instead of waiting to be told."""
        before = running.part.version
        check(isinstance(before, int), f"version is {before!r}")
        await decided(running.part.admit(PARTICLE, STRANGER.peer_id))
        await anyio.sleep(60)
        check(running.part.version >= before, "the version went back")

    async def test_proofs_are_proofs(self, running: Solo[Authorization]) -> None:
        """What it proves it takes itself; garbage and proofs of other paths it does not."""
        part, me, other = running.part, running.peer, STRANGER.peer_id
        for garbage in (b"", b"\0", b"{}", bytes(1000)):
            check(part.proves(garbage, me, other, length_max=LENGTH_MAX) is False, f"proves({garbage[:8]!r}) is true")
        proof = part.prove(me, other, length_max=LENGTH_MAX)
        check(proof is None or isinstance(proof, bytes), f"prove() returned {proof!r}")
        if proof is not None:
            check(part.proves(proof, me, other, length_max=LENGTH_MAX), "it does not take its own proof")
            check(not part.proves(proof, me, peer_of(1), length_max=LENGTH_MAX), "its proof proves anything")
            for at in range(0, len(proof), max(1, len(proof) // 50)):
                forged = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
                check(
                    not part.proves(forged, me, other, length_max=LENGTH_MAX),
                    f"it takes a proof with a wrong byte {at}",
                )


def particle_with(credentials: tuple[bytes, ...]) -> Particle:
    """The stranger's particle, showing something."""
    header = PARTICLE.header
    return Particle.create(
        STRANGER,
        PARTICLE.script,
        particle_id=header.id,
        timestamp_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
        max_hops=header.max_hops,
        network=header.network,
        credentials=credentials,
    )


def check_decision(decision: object) -> None:
    """It is one, and a refusal says why."""
    if not isinstance(decision, Decision):
        pytest.fail(f"a {type(decision).__name__} is no Decision")
    if not decision.allowed:
        check(REASON.fullmatch(decision.reason), f"{decision.reason!r} is no short word for metrics")
        check(decision.explanation, "a refusal has no explanation for people")
