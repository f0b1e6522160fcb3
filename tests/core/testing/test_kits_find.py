"""The kits find what they are for: parts that hang, swallow cancellations, or let anything come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from fluvial.addresses import Contact
from fluvial.effectors import Call
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.policies import PolicyReader
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Answer, Authorization, Contributions, Decision, Json, Part, Routing
from fluvial.testing.authorization import AuthorizationConformance
from fluvial.testing.extra import ExtraConformance
from fluvial.testing.part import PartConformance
from fluvial.testing.ports import NotAllowed
from fluvial.testing.routing import RoutingConformance
from fluvial.testing.solo import solo
from fluvial.virtual.loop import BACKEND

FAILED = pytest.fail.Exception


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Plain(Part):
    """What the bad parts have in common: nothing is wrong."""

    def __init__(self, context: Context, options: object = None) -> None:
        self.context = context


class Forgetful(Authorization):
    def __init__(self, context: Context, options: object = None) -> None:
        self.context = context

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        return ALLOWED

    async def permit(self, call: Call, policy: Json | None) -> Decision:
        return ALLOWED


async def _run_kit(kit: PartConformance, test: str, build: Any, folder: Path) -> None:
    async with kit.alone(build, folder) as running:
        await getattr(kit, test)(running)


async def test_a_part_that_uses_a_port_while_it_is_built(tmp_path: Path) -> None:
    class Hasty(Plain):
        def __init__(self, context: Context) -> None:
            context.peers.connected()

    with pytest.raises(NotAllowed, match=r"before `run`"):
        await PartConformance().test_it_is_built_without_its_ports(Hasty, tmp_path)


async def test_a_part_that_uses_a_port_of_others() -> None:
    class Curious(Forgetful):
        async def admit(self, particle: Particle, sender: PeerId) -> Decision:
            await self.context.ledger.submit(b"")
            return ALLOWED

    async with solo(Curious, kind="authorization") as part:
        with pytest.raises(NotAllowed, match=r"ledger\.submit.*authorization"):
            await part.part.admit(None, part.peer)  # type: ignore[arg-type]


async def test_a_part_that_asks_others_before_it_has_started(tmp_path: Path) -> None:
    class Impatient(Plain):
        async def run(self, *, task_status: TaskStatus[None]) -> None:
            await self.context.directory.find(("service", "weather"))  # type: ignore[arg-type]
            task_status.started()
            await anyio.sleep_forever()

    with pytest.raises(FAILED, match="does not start"):
        await ExtraConformance().test_it_starts_although_nobody_answers(Impatient, tmp_path)


async def test_a_part_that_does_not_stop(tmp_path: Path) -> None:
    class Stubborn(Plain):
        async def run(self, *, task_status: TaskStatus[None]) -> None:
            task_status.started()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3600)

    with pytest.raises(FAILED, match="does not stop"):
        await ExtraConformance().test_it_stops_when_it_is_asked(Stubborn, tmp_path)


async def test_a_part_that_lets_anything_come_out(tmp_path: Path) -> None:
    class Careless(Plain):
        def contributions(self) -> Contributions:
            return Contributions(answers=(Answer(protocol="/careless/1", by=self._answer),))

        async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
            return payload[:1] + bytes([payload[1]])

    with pytest.raises(FAILED, match="what a stranger sent makes it fail"):
        await ExtraConformance().test_garbage_is_answered_or_refused(Careless, tmp_path)
    with pytest.raises(FAILED, match="metrics begin with fluvial_"):
        await ExtraConformance().test_what_it_gives_can_be_used(_twice(Careless), tmp_path)


def _twice(of: Any) -> Any:
    class Unlucky(of):  # type: ignore[misc]
        def __init__(self, context: Context) -> None:
            from prometheus_client import Counter

            super().__init__(context)
            Counter("careless_answers", "not named as it must", registry=context.metrics)

    return Unlucky


async def test_a_method_that_swallows_its_cancellation(tmp_path: Path) -> None:
    class Deaf(Forgetful):
        async def permit(self, call: Call, policy: Json | None) -> Decision:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            return ALLOWED

    with pytest.raises(FAILED, match=r"permit ignores its cancellation"):
        await _run_kit(AuthorizationConformance(), "test_methods_get_along_without_ports", Deaf, tmp_path)


async def test_a_method_that_does_not_expect_its_port_to_fail(tmp_path: Path) -> None:
    class Naive(Routing):
        def __init__(self, context: Context) -> None:
            self.context = context
            self.known: dict[PeerId, Contact] = {}

        async def find(self, peer: PeerId) -> Contact | None:
            try:
                await self.context.database.read(lambda connection: None)
            except Exception as error:
                raise KeyError(peer) from error
            return None

        def learn(self, contact: Contact) -> None:
            self.known[contact.peer] = contact

        def contacts(self) -> Sequence[Contact]:
            return list(self.known.values())

    kit = RoutingConformance()
    with pytest.raises(FAILED, match="find while its ports fail: it failed: KeyError"):
        await _run_kit(kit, "test_methods_get_along_without_ports", Naive, tmp_path)
    with pytest.raises(FAILED, match="itself"):
        await _run_kit(kit, "test_it_does_not_find_itself", Naive, tmp_path)
    with pytest.raises(FAILED, match="more than 4096"):
        await _run_kit(kit, "test_strangers_cannot_fill_it", Naive, tmp_path)


async def test_an_authorization_that_believes_anything(tmp_path: Path) -> None:
    class Gullible(Forgetful):
        def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
            return True

        def weight(self, peer: PeerId) -> int:
            return 1

        async def permit(self, call: Call, policy: Json | None) -> Decision:
            return Decision(policy is not None, "no policy!", "")

    kit = AuthorizationConformance()
    for test, complaint in [
        ("test_proofs_are_proofs", "is true"),
        ("test_strangers_have_no_weight", "a stranger has a weight"),
        ("test_a_policy_that_is_not_understood_permits_nothing_that_none_would_not", "would be refused without one"),
    ]:
        with pytest.raises(FAILED, match=complaint):
            await _run_kit(kit, test, Gullible, tmp_path)


async def test_an_authorization_that_lets_in_whoever_shows_something(tmp_path: Path) -> None:
    class Impressed(Forgetful):
        async def admit(self, particle: Particle, sender: PeerId) -> Decision:
            return ALLOWED if particle.header.credentials else Decision(False, "stranger", "shows nothing")

    class Trusting(Impressed):
        async def permit(self, call: Call, policy: Json | None) -> Decision:
            return ALLOWED if call.credentials else Decision(False, "stranger", "shows nothing")

    for build in (Impressed, Trusting):
        with pytest.raises(FAILED, match="credentials without meaning"):
            await _run_kit(AuthorizationConformance(), "test_credentials_are_looked_at_with_care", build, tmp_path)


async def test_an_authorization_that_takes_provenance_for_granted(tmp_path: Path) -> None:
    class Presuming(Forgetful):
        async def permit(self, call: Call, policy: Json | None) -> Decision:
            return ALLOWED if call.tetraplets[0][0].service else Decision(False, "origin", "from nowhere")

    with pytest.raises(IndexError):
        await _run_kit(AuthorizationConformance(), "test_any_provenance_is_decided_on", Presuming, tmp_path)


async def test_an_authorization_that_permits_what_it_calls_a_problem(tmp_path: Path) -> None:
    class Lax(Forgetful):
        def contributions(self) -> Contributions:
            return Contributions(extensions=(PolicyReader(lambda policy: "I do not like it"),))

    with pytest.raises(FAILED, match="I do not like it"):
        await _run_kit(AuthorizationConformance(), "test_what_it_says_of_policies_is_what_it_does", Lax, tmp_path)
