"""A chat inside of a perimeter, over real processes: who is served, who is refused at the first honest peer, and what the initiator is told."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import anyio
import pytest
from click.testing import CliRunner
from fluvial.addresses import Contact
from fluvial.cli.main import main
from fluvial.client import Client, connect
from fluvial.errors import Refused, ServiceError
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, encode_delivery
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt
from fluvial_trust_graph.statements import TrustStatement, encode_statement, sign_trust

from tests.support.deliveries import answered, make_particle
from tests.support.processes import NETWORK, PeerProcess, fluvial_here, wait_until

pytestmark = pytest.mark.timeout(180)

PLUGIN = '''
from fluvial import hookimpl
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.offers import Registry


class Auth(Effector[NoConfig]):
    service_id = "auth"

    @function
    async def check(self, call: Call) -> bool:
        """Whether the initiator is known."""
        return True


class Chat(Effector[NoConfig]):
    service_id = "chat"

    @function
    async def message(self, text: str) -> str:
        """Take a message."""
        return "got " + text

    @function
    async def post(self, token: bool, text: str) -> str:
        """Take a message of somebody who was checked."""
        return "posted " + text


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.effector("auth", Auth)
    registry.effector("chat", Chat)
'''
MINUTE = 60
WAIT_S = 30.0


class Room:
    """Three peers of the perimeter `room`, one outside of it that everybody may use, and the developer, who runs none."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.developer, self.author = KeyPair.generate(), KeyPair.generate()
        inside = {
            "kind": "trust_graph",
            "admit": [{"perimeter": "room"}],
            "perimeters_file": "../room.toml",
            "gossip_s": 1.0,
            "services": {
                "auth": {"*": [{"perimeter": "room"}]},
                "chat": {
                    "message": [{"perimeter": "room", "inputs": "room"}],
                    "post": [
                        {
                            "perimeter": "room",
                            "arguments": [{"at": 0, "from": "auth.check", "on": ["perimeter:room"], "equals": True}],
                        }
                    ],
                },
            },
        }
        self.peers = [self._peer(f"peer-{number}", inside) for number in range(3)]
        self.outsider = self._peer("outsider", {"kind": "signatures"})
        ids = json.dumps([str(one.peer_id) for one in self.peers])
        self.perimeter = (
            f'[room]\npeers = {ids}\nservices = ["auth", "chat"]\nauthors = ["{self.author.peer_id}"]\n'
            f'keys = {{ "{self.developer.peer_id}" = 2 }}\n'
        )
        (folder / "room.toml").write_text(self.perimeter)

    def _peer(self, name: str, authorization: Mapping[str, Any]) -> PeerProcess:
        made = [one.address for one in getattr(self, "peers", [])]
        return PeerProcess(
            self.folder / name,
            self.variables,
            plugins={"room": PLUGIN},
            authorization=authorization,
            effectors={"auth": {}, "chat": {}},
            routing={"kind": "static", "peers": made},
        )

    def start(self) -> None:
        addresses = [one.address for one in (*self.peers, self.outsider)]
        for one in (*self.peers, self.outsider):
            text = one.config.read_text()
            others = [address for address in addresses if address != one.address]
            start = text.index("[routing]")
            end = text.find("\n[", start + 1)
            tail = text[end:] if end > 0 else ""
            routing = f'[routing]\nkind = "static"\npeers = {json.dumps(others)}\n'
            # Connections that stand, so that statements get around.
            relays = f"relays = {json.dumps(others[:1])}\n"
            one.config.write_text(relays + text[:start] + routing + tail)
            one.start()

    def calls(self) -> int:
        """How many calls the peers of the perimeter have made, whatever came of them."""
        return sum(event["status"] == 0 for one in self.peers for event in one.events("call_done"))

    def trust(
        self, issuer: KeyPair, subject: PeerId, *, scope: str = "perimeter:room", lasts_s: int = MINUTE * 10
    ) -> TrustStatement:
        now = int(time.time())
        statement = TrustStatement(
            network=NETWORK,
            issuer=issuer.peer_id,
            subject=subject,
            issued_at=now - MINUTE,
            expires_at=now + lasts_s,
            scopes=(scope,) if scope else (),
        )
        return sign_trust(statement, issuer)

    def certificate(self, subject: PeerId, **fields: Any) -> list[bytes]:
        """From the developer to a user."""
        chain = [
            self.trust(self.developer, self.developer.peer_id, scope=""),
            self.trust(self.developer, subject, **fields),
        ]
        return [encode_statement(one) for one in chain]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[Room]:
    made = Room(tmp_path_factory.mktemp("room"), variables)
    try:
        made.start()
        yield made
    finally:
        for one in (*made.peers, made.outsider):
            one.close()


@contextlib.asynccontextmanager
async def client(room: Room, keys: KeyPair, credentials: Sequence[bytes] = (), at: int = 0) -> AsyncIterator[Client]:
    others = [one.address for one in (*room.peers, room.outsider)]
    async with connect(
        room.peers[at].address, keys=keys, network=NETWORK, peers=others, credentials=credentials
    ) as connected:
        yield connected


ROUND = """
(seq (call one ("auth" "check") [] token)
     (seq (call two ("chat" "post") [token text] posted)
          (seq (call three ("chat" "message") [posted] answer)
               (call %init_peer_id% ("return" "") [answer]))))
"""
"""Through all three; the third takes what the second has made."""


async def go(room: Room, keys: KeyPair, credentials: Sequence[bytes] = (), script: str = ROUND, **values: Any) -> Any:
    ids = {name: one.peer_id for name, one in zip(("one", "two", "three"), room.peers, strict=True)}
    async with (
        client(room, keys, credentials) as connected,
        connected.run(script, ttl_s=20, text="hi", **ids, **values) as flow,
    ):
        (answer,) = await flow.result()
        return answer


async def test_a_member_goes_through(room: Room) -> None:
    assert await go(room, room.author) == "got posted hi"


async def test_a_user_with_a_certificate_is_served_by_peers_that_have_never_heard_of_it(room: Room) -> None:
    user, friend = KeyPair.generate(), KeyPair.generate()
    certificate = room.certificate(user.peer_id)
    assert await go(room, user, certificate) == "got posted hi"
    passed_on = [*certificate, encode_statement(room.trust(user, friend.peer_id))]
    assert await go(room, friend, passed_on) == "got posted hi", "two links are allowed"


async def refused(room: Room, keys: KeyPair, credentials: Sequence[bytes] = ()) -> Refused:
    """What the initiator is told; no peer has called anything."""
    before = room.calls()
    with pytest.raises(Refused) as caught:
        await go(room, keys, credentials)
    assert room.calls() == before
    return caught.value


async def test_a_stranger_is_refused(room: Room) -> None:
    keys = KeyPair.generate()
    error = await refused(room, keys)
    assert error.reason == "perimeter"
    assert f"the flow of {keys.peer_id} is no member of perimeter room" in error.message


@pytest.mark.parametrize("flaw", ["expired", "of another", "forged", "for something else", "too deep"])
async def test_certificates_that_do_not_hold_are_refused(room: Room, flaw: str) -> None:
    user, other = KeyPair.generate(), KeyPair.generate()
    certificate = {
        "expired": lambda: room.certificate(user.peer_id, lasts_s=-1),
        "of another": lambda: room.certificate(other.peer_id),
        "forged": lambda: [room.certificate(user.peer_id)[0], room.certificate(user.peer_id)[1][:-64] + bytes(64)],
        "for something else": lambda: room.certificate(user.peer_id, scope="perimeter:elsewhere"),
        "too deep": lambda: [
            *room.certificate(other.peer_id),
            *(
                encode_statement(one)
                for one in (room.trust(other, room.author.peer_id), room.trust(room.author, user.peer_id))
            ),
        ],
    }[flaw]()
    assert (await refused(room, user, certificate)).reason == "perimeter"


async def test_a_revoked_member_is_refused_everywhere(room: Room) -> None:
    user = KeyPair.generate()
    certificate = room.certificate(user.peer_id)
    assert await go(room, user, certificate) == "got posted hi"
    key_file = room.folder / "developer.key"
    if not key_file.exists():
        room.developer.save(key_file)
    arguments = ("--network", NETWORK, "--key", key_file, "--relay", room.peers[2].address, "--json")
    done = fluvial_here("trust", "revoke", user.peer_id, *arguments, cwd=room.folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["outcome"] == "accepted"

    def knows(peer: PeerProcess) -> bool:
        listed = CliRunner().invoke(main, ["trust", "list", user.peer_id, "--config", str(peer.config), "--json"])
        return any(one["kind"] == "revocation" for one in json.loads(listed.stdout))

    for peer in room.peers:
        wait_until(lambda peer=peer: knows(peer), within_s=WAIT_S, what="the revocation gets around")  # type: ignore[misc]
    assert (await refused(room, user, certificate)).reason == "perimeter"


FORGED = """
(seq (call outside ("auth" "check") [] token)
     (seq (call two ("chat" "post") [token text] posted)
          (call %init_peer_id% ("return" "") [posted])))
"""


@pytest.mark.parametrize(
    ("script", "function"),
    [
        (FORGED, "chat.post"),
        (FORGED.replace("[token text]", "[true text]"), "chat.post"),
        (FORGED.replace('("chat" "post") [token text]', '("chat" "message") [token]'), "chat.message"),
    ],
    ids=["outside", "literal", "input"],
)
async def test_input_from_outside_is_refused_and_the_script_is_told(room: Room, script: str, function: str) -> None:
    before = room.calls()
    with pytest.raises(ServiceError, match=r"does not come from|neither the initiator's own") as caught:
        await go(room, room.author, script=script, outside=room.outsider.peer_id)
    assert caught.value.status == 8
    assert f"{function} is not allowed" in caught.value.message
    assert room.calls() == before


async def deliver(room: Room, delivery: Delivery) -> Receipt:
    async with client(room, KeyPair.generate()) as connected:
        contact = Contact.parse(room.peers[0].address)
        return decode_receipt(
            await connected.node.transport.request(contact, PROTOCOL, encode_delivery(delivery), timeout_s=20)
        )


async def test_an_answer_that_its_peer_never_gave_and_a_replay_are_refused(room: Room) -> None:
    first, second = room.peers[0].peer_id, room.peers[1].peer_id
    script = f'(seq (call "{second}" ("auth" "check") [] token) (call "{first}" ("chat" "post") [token "hi"]))'
    particle = make_particle(script, keys=room.author, network=NETWORK)

    def delivery(data: bytes) -> Delivery:
        return Delivery(first.public_key, 1, particle.header, particle.signature, particle.script, data)

    before = room.calls()
    true = answered(particle, room.peers[1].keys, True)
    signer, forger = room.peers[1].keys.public_key, room.author.public_key
    forged = answered(particle, room.author)
    assert signer in true
    assert (await deliver(room, delivery(true.replace(signer, forger)))).reason == "malformed"
    assert room.calls() == before
    assert forged != true
    assert (await deliver(room, delivery(true))).reason == ""
    wait_until(lambda: room.calls() == before + 1, within_s=WAIT_S, what="the call is made")
    again = await deliver(room, delivery(true))
    assert again.settled
    await anyio.sleep(0.5)
    assert room.calls() == before + 1, "a replay calls nothing"


async def test_the_peer_says_which_rule_refused_what(room: Room) -> None:
    keys = KeyPair.generate()
    async with client(room, keys) as connected:
        flow = connected.run(
            '(call one ("chat" "message") ["x"])', ttl_s=5, one=room.peers[0].peer_id, particle_id="who-is-it"
        )
        with pytest.raises(Refused):
            async with flow as running:
                await running.result()
    done = fluvial_here("particle", "why", "who-is", "--config", room.peers[0].config, "--json", cwd=room.folder)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["what"], row["reason"]) == ("particle", "perimeter")
    assert row["explanation"].startswith("authorization.admit does not let this in")


def command(room: Room, *arguments: str | Path) -> Any:
    """``fluvial trust …`` for the first peer, in this process; its JSON."""
    done = CliRunner().invoke(main, ["trust", *map(str, arguments), "--config", str(room.peers[0].config), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_commands_state_look_and_draw(room: Room, tmp_path: Path) -> None:
    me, friend, other = room.peers[0].peer_id, KeyPair.generate(), KeyPair.generate()
    (made,) = command(room, "issue", friend.peer_id, "--days", "2", "--out", tmp_path / "friend.cert")
    assert (made["outcome"], made["issuer"], made["expires_at"] - made["issued_at"]) == ("accepted", me, 2 * 86_400)
    assert command(room, "weight", friend.peer_id)["weight"] == 2**7
    friend.save(tmp_path / "friend.key")
    out = tmp_path / "other.cert"
    issued = (
        "trust",
        "issue",
        other.peer_id,
        "--scope",
        "dht",
        "--key",
        tmp_path / "friend.key",
        "--chain",
        tmp_path / "friend.cert",
    )
    alone = CliRunner().invoke(main, [*map(str, issued), "--network", NETWORK, "--out", str(out), "--json"])
    assert json.loads(alone.stdout)[0]["outcome"] == "written"
    words = [one["outcome"] for one in command(room, "add", out)]
    assert len(words) == 3
    assert words[-1] == "accepted"
    assert command(room, "weight", other.peer_id)["weight"] == 0, "good for the dht alone"
    assert command(room, "weight", other.peer_id, "--scope", "dht")["weight"] == 2**6
    said = command(room, "explain", me, other.peer_id, "--scope", "dht")
    assert said["chain"] == [me, friend.peer_id, other.peer_id]
    assert "for dht, not for everything" in command(room, "explain", other.peer_id)["steps"][0]
    assert {one["subject"] for one in command(room, "list", friend.peer_id)} == {friend.peer_id, other.peer_id}
    for name, begins in (("around.svg", "<svg"), ("around.mmd", "graph LR")):
        drawn = CliRunner().invoke(
            main,
            [
                "trust",
                "graph",
                friend.peer_id,
                "--config",
                str(room.peers[0].config),
                "--scope",
                "dht",
                "--output",
                str(tmp_path / name),
            ],
        )
        assert drawn.exit_code == 0, drawn.output
        text = (tmp_path / name).read_text()
        assert text.startswith(begins)
        assert all(f"…{peer[-8:]}" in text for peer in (me, friend.peer_id, other.peer_id))
    ElementTree.parse(tmp_path / "around.svg")
    (revoked,) = command(room, "revoke", friend.peer_id)
    assert (revoked["kind"], revoked["outcome"]) == ("revocation", "accepted")
    assert command(room, "weight", other.peer_id, "--scope", "dht")["weight"] == 0
    bad = CliRunner().invoke(main, ["trust", "weight", "nobody"])
    assert bad.exit_code == 2
