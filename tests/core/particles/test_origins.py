"""Between real peers: nobody gives a value the name of another peer, and who contradicts itself is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fluvial.air.data.batch import Batch
from fluvial.air.data.content import Json, content_id
from fluvial.air.data.facts import CanonFact, Element, Fact, Instance, Result, Step
from fluvial.air.data.wire import encode_data
from fluvial.air.syntax import parse
from fluvial.air.syntax.tree import CallInstruction, Canon, walk
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.particle import Delivery, Particle
from fluvial.particles.receipt import Receipt
from fluvial.story import text
from fluvial.story.story import tell

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, id_of, keys_of, peer, until

CHOSEN: Final = list(b"I owe Mallory a million")
TRUE: Final = [1, 2, 3]
LIAR: Final = id_of("l")
AUTH: Final = id_of("auth")


class Bank(Effector[NoConfig]):
    """Pays if a peer that it trusts says so, and no other."""

    service_id = "bank"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, list[tuple[str, str, str]]]] = []

    @function
    async def pay(self, call: Call, allowed: Json) -> None:
        """What it was asked, and in whose name."""
        self.asked.append((allowed, [(one.peer, one.service, one.function) for one in call.tetraplets[0]]))


def numbers(particle: Particle, kind: type) -> list[int]:
    return [node.number for node in walk(parse(particle.script).root) if type(node) is kind]


async def lie(by: Peer, to: Peer, particle: Particle, *facts: Fact, values: list[Any]) -> Receipt:
    """A stranger hands over what ``l`` has signed."""
    keys = keys_of("l")
    batch = Batch.seal(particle.key, keys.peer_id, [Step(), *facts], keys.sign)
    data = encode_data([batch], {content_id(value): value for value in values})
    return await by.deliver(
        Delivery(to.peer_id.public_key, 2, particle.header, particle.signature, particle.script, data), to
    )


async def submit(on: Peer, script: str) -> Particle:
    particle = make_particle(script, keys=on.node.keys)
    await on.node.submit(particle)
    return particle


SIGN: Final = f"""
    (seq (call %init_peer_id% ("op" "array") [1 2 3] $s)
      (seq (canon "{LIAR}" $s #s)
        (seq (call %init_peer_id% ("sig" "sign") [#s.$.[0]] signed)
             (call %init_peer_id% ("bank" "pay") [signed]))))"""


async def test_nobody_has_a_peer_sign_what_it_did_not_make(tmp_path: Path) -> None:
    bank = Bank()
    async with peer("a", tmp_path, serves=[bank]) as a, peer("m", tmp_path) as m:
        particle = await submit(a, SIGN)
        (canon,), (call, *_) = numbers(particle, Canon), numbers(particle, CallInstruction)
        forged = CanonFact(b"", canon, (Element(content_id(CHOSEN), b"", call),))
        receipt = await lie(m, a, particle, forged, values=[CHOSEN])
        assert receipt.reason == "malformed"
        assert f"what {LIAR} has fixed does not follow from signed facts" in receipt.explanation
        assert a.outcomes("malformed") == 1
        true = CanonFact(b"", canon, (Element(content_id(TRUE), b"", call),))
        assert (await lie(m, a, particle, true, values=[TRUE])).reason == ""
        await until(lambda: bank.asked)
        (signed, _), *_ = bank.asked
        assert signed["success"]
        assert a.node.keys.public_key not in map(bytes, signed["signature"])
        assert bytes(signed["signature"][0]) == a.node.keys.sign(bytes(TRUE))


PAY: Final = f"""
    (seq (par (call "{AUTH}" ("auth" "check") [] $ok) (null))
      (seq (canon "{LIAR}" $ok #ok) (call %init_peer_id% ("bank" "pay") [#ok.$.[0]])))"""


async def test_no_service_pays_on_the_word_of_a_peer_that_never_ran(tmp_path: Path) -> None:
    bank = Bank()
    async with peer("a", tmp_path, serves=[bank]) as a, peer("m", tmp_path) as m:
        particle = await submit(a, PAY)
        (canon,), (call, _) = numbers(particle, Canon), numbers(particle, CallInstruction)
        yes = content_id(True)
        forged = CanonFact(b"", canon, (Element(yes, b"", call),))
        receipt = await lie(m, a, particle, forged, values=[True])
        assert "has no such result" in receipt.explanation
        own = Result(b"", call, "auth", "check", (), yes)
        assert (await lie(m, a, particle, own, forged, values=[True])).reason == ""
        stored = await a.node.stored(particle)
        assert stored is not None
        assert [wait.reason for wait in tell(stored, a.peer_id).waits if "does not follow" in wait.reason]
        assert bank.asked == []
        keys = keys_of("auth")
        said = Batch.seal(particle.key, AUTH, [Step(), own], keys.sign)
        data = encode_data([said], {yes: True})
        delivery = Delivery(a.peer_id.public_key, 2, particle.header, particle.signature, particle.script, data)
        assert (await m.deliver(delivery, a)).reason == ""
        await until(lambda: bank.asked)
        assert bank.asked == [(True, [(AUTH, "auth", "check")])], "now that it has run"


ASK: Final = f"""
    (seq (call "{LIAR}" ("s" "vote") [] x) (seq (call "{AUTH}" ("s" "wait") []) (call %init_peer_id% ("bank" "pay") [x])))"""


async def test_who_contradicts_itself_is_found_out(tmp_path: Path) -> None:
    async with peer("a", tmp_path, serves=[Bank()]) as a, peer("m", tmp_path) as m:
        particle = await submit(a, ASK)
        call, *_ = numbers(particle, CallInstruction)
        votes = [Result(b"", call, "s", "vote", (), content_id(name)) for name in ("Ada", "Grace", "Edsger")]
        assert (await lie(m, a, particle, votes[0], values=["Ada"])).reason == ""
        assert a.metric("fluvial_equivocations_total") == 0
        for vote, name in zip(votes[1:], ("Grace", "Edsger"), strict=True):
            for _ in range(2):
                assert (await lie(m, a, particle, vote, values=[name])).reason == ""
        (event,) = a.events("peer_contradicted_itself")
        assert (event["other"], event["reason"], event["count"], event["level"]) == (LIAR, "call", 1, "warning")
        assert a.metric("fluvial_equivocations_total") == 1
    async with peer("a", tmp_path, serves=[Bank()]) as a:
        await until(lambda: a.events("particle_resumed"))
        assert a.metric("fluvial_equivocations_total") == 0, "that was said before"
        stored = await a.node.stored(particle)
        assert stored is not None
        story = tell(stored, a.peer_id)
        (found,) = story.contradictions
        assert (found.peer, found.answers, found.instance) == (LIAR, ("Ada", "Grace"), str(Instance(b"", call).node))
        assert list(found.batches) == [event["batches"][0], event["batches"][1]]
        assert "contradicts itself: liar, call" in text.render(story, names={str(LIAR): "liar"})
        assert '"Ada", and "Grace"' in text.render(story)
