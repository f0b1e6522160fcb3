"""What happens around the message: the peers find each other, a ledger names the chat and its perimeter, alice is let in, and later shut out again.

Each act does something over the network as anybody could, and says what came of it. What the ledger says is never taken from the peer that was asked, but
proven to a light client that has nothing but the genesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio

from fluvial.client import Client, connect
from fluvial.credentials import read_credentials
from fluvial.demo.network import Network
from fluvial.demo.settings import INITIATOR, MEMBERS, NAME, NETWORK, PERIMETER, SEED, SERVERS, VALIDATORS, chat_members
from fluvial.encoding import decode
from fluvial.errors import FluvialError, ServiceError
from fluvial.hosting.genesis_file import read_genesis
from fluvial.hosting.services import NOT_READY
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.names import NAMES, NameRecord
from fluvial.ledger.perimeters import CreatePerimeter, PerimeterTerms
from fluvial.ledger.revocations import REVOCATIONS, RevocationRecord, revocation_key
from fluvial.ledger.statements import NOTHING
from fluvial.remote_ledger import RemoteLedger

WAIT_S: Final = 60.0
"""How long an act may take; enough for a busy machine."""
LOOK_S: Final = 0.1
_RESOLVE: Final = """\
(seq
  (fold sought peer
    (seq (call asked ("dht" "resolve") [peer] $found) (next peer)))
  (seq (canon asked $found #all)
    (call %init_peer_id% ("return" "") [#all])))
"""


class Acts:
    """The acts, in the order of the methods.

    Args:
        network: runs.
        offline: the peer that does not.
        say: prints a line.

    Attributes:
        lines: what was said.
        figures: the same as data.
    """

    def __init__(self, network: Network, offline: str | None, say: Callable[[str], None]) -> None:
        self._network = network
        self._up = [name for name in SERVERS if name != offline]
        self._say = say
        self._light = LightClient(read_genesis(network.genesis))
        self._witness = next(name for name in reversed(MEMBERS) if name != offline)
        self.lines: list[str] = []
        self.figures: dict[str, Any] = {}

    def as_developer(self) -> AbstractAsyncContextManager[Client]:
        """The developer as a client, behind the seed."""
        return connect(self._network.address(SEED), network=NETWORK, keys=self._network.developer)

    def _as_alice(self) -> AbstractAsyncContextManager[Client]:
        keys = KeyPair.load(self._network.members[INITIATOR].folder / "secrets" / "peer.key")
        credentials = read_credentials(self._network.certificate)
        return connect(self._network.address(SEED), network=NETWORK, keys=keys, credentials=credentials)

    def _ledger(self, client: Client, name: str) -> RemoteLedger:
        return RemoteLedger(client, self._network.peer(name))

    def _told(self, act: str, began: float, *lines: str) -> None:
        """Tell an act that began at a time of the event loop."""
        seconds = f" ({anyio.current_time() - began:.1f} s)"
        for number, line in enumerate(lines):
            self._say(f"{'' if number else act:<8} {line}{'' if number else seconds}")
        self.lines.append(f"{act}: {'; '.join(lines)}")

    # --- before the message

    async def find_each_other(self, client: Client) -> None:
        """Every peer finds every other one in the DHT. Raises FluvialError: one cannot be found."""
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for name in self._up:
                tasks.start_soon(self._find_others, client, name)
        count = len(self._up) * (len(self._up) - 1)
        self.figures["lookups"] = count
        self._told(
            "found",
            began,
            f"every peer was given one address, {SEED}'s; {count} of {count} lookups through the DHT found the others",
        )

    async def _find_others(self, client: Client, name: str) -> None:
        asked = self._network.peer(name)
        sought = [self._network.peer(one) for one in self._up if one != name]
        with anyio.move_on_after(WAIT_S):
            while True:
                (found,) = await client.run(_RESOLVE, asked=asked, sought=sought)
                if all(found):
                    return
                await anyio.sleep(LOOK_S)
        raise FluvialError(f"{name} does not find the other peers")

    async def write_ledger(self, client: Client) -> None:
        """The developer makes the chat's perimeter and its name. Raises FluvialError."""
        network, ledger, began = self._network, self._ledger(client, SEED), anyio.current_time()
        members = chat_members(network.members)
        terms = PerimeterTerms(members, NOTHING, (network.developer.public_key,))
        (made,) = await ledger.submit(network.developer, [CreatePerimeter(terms)])
        named = await ledger.take_name(network.developer, NAME, network.peer(SEED))
        if failed := made["failed"] or named["failed"]:
            raise FluvialError(f"the ledger takes neither perimeter nor name: {failed}")
        status = await ledger.ask("status")
        self.figures |= {"chain": status["chain"], "perimeter_height": made["height"], "name_height": named["height"]}
        inside = ", ".join(f"{one.service}@{network.names[one.peer]}" for one in members)
        self._told(
            "ledger",
            began,
            f"held by {_listed(VALIDATORS)} ({status['algorithm']}); the others follow it",
            f"block {made['height']}: the perimeter {PERIMETER} = {inside}",
            f"block {named['height']}: the name {NAME} = @{SEED}",
        )

    async def let_in(self, client: Client) -> None:
        """Alice has the developer's certificate, and it is proven that nobody has revoked it. Raises FluvialError."""
        began = anyio.current_time()
        fact = await self._fact(self._ledger(client, self._witness), REVOCATIONS, self._revocation)
        self.figures["not_revoked_at"] = fact.header.height
        self._told(
            "let in",
            began,
            f"{INITIATOR} has the developer's certificate for the perimeter, and shows it in the header of her flows",
            f"not revoked as of height {fact.header.height}: {self._proof(fact)}",
        )

    async def resolve_name(self) -> PeerId:
        """Alice asks for the chat by its name; returns the peer that knows it. Raises FluvialError."""
        began = anyio.current_time()
        async with self._as_alice() as client:
            fact = await self._fact(
                self._ledger(client, self._witness), NAMES, NAME.encode(), self.figures["name_height"]
            )
        if fact.value is None:
            raise FluvialError(f"the ledger does not know the name {NAME}")
        target = PeerId.parse(decode(fact.value, NameRecord, what="name").target)
        self._told(
            "name",
            began,
            f"{NAME} is @{self._network.names[target]}, {INITIATOR} hears from {self._witness}: {self._proof(fact)}",
        )
        return target

    # --- after the message

    async def revoke(self, client: Client) -> None:
        """The developer revokes alice on the ledger, and that is proven. Raises FluvialError."""
        began = anyio.current_time()
        await self._network.revoke()
        (statement,) = read_credentials(self._network.revocation)
        done = await self._ledger(client, SEED).revoke(self._network.developer, statement)
        fact = await self._fact(self._ledger(client, self._witness), REVOCATIONS, self._revocation, done["height"])
        if done["failed"] or fact.value is None:
            raise FluvialError(f"the ledger does not take the revocation: {done['failed']}")
        record = decode(fact.value, RevocationRecord, what="revocation")
        signers = self._signers(fact)
        self.figures["revocation"] = {
            "height": record.height,
            "proven_at": fact.header.height,
            "state_root": fact.header.state.hex(),
            "signed_by": signers,
        }
        self._told(
            "revoked",
            began,
            "the developer takes the certificate back, on the ledger",
            f"revoked as of height {record.height}: {self._proof(fact)}",
            f"state root {fact.header.state.hex()}",
        )

    def refused(self, refusals: Mapping[str, str]) -> None:
        """Note who did not take alice's next message, and why."""
        self.figures["refused_by"] = dict(refusals)
        self.lines += [
            f"refused: {name} does not take {INITIATOR}'s next message: {why}" for name, why in refusals.items()
        ]

    # --- proofs

    @property
    def _revocation(self) -> bytes:
        return revocation_key(NETWORK, self._network.developer.public_key, self._network.peer(INITIATOR).public_key)

    async def _fact(self, ledger: RemoteLedger, module: str, key: bytes, height: int = 1) -> ProvenFact:
        """What the ledger says at a key from some height on, once it can be proven, and checked."""
        why = ""
        with anyio.move_on_after(WAIT_S):
            while True:
                try:
                    fact = await ledger.fact(module, key)
                except ServiceError as error:
                    if error.status != NOT_READY:
                        raise
                    why = error.message
                else:
                    if fact.header.height >= height:
                        self._light.checked(fact, module, key, height_min=height)
                        return fact
                    why = f"it is at height {fact.header.height}"
                await anyio.sleep(LOOK_S)
        raise FluvialError(f"nothing of height {height} is proven within {WAIT_S:g} s: {why}")

    def _signers(self, fact: ProvenFact) -> Sequence[str]:
        peers = self._light.validators.peers
        return [self._network.names[peers[index]] for index, _ in fact.finality.certificate.signatures]

    def _proof(self, fact: ProvenFact) -> str:
        signers = self._signers(fact)
        return f"a light client has checked the proof, signed by {len(signers)} of {len(self._light.validators)}: {_listed(signers)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
