"""The ledger that another peer holds, asked by a client: what it says, with proofs, and transactions for it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import anyio
import msgspec

from fluvial.client import Client
from fluvial.encoding import decode
from fluvial.errors import Refused, RemoteProtocolError, ServiceError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.names import CommitName, RevealName, commitment
from fluvial.ledger.transactions import Body, carry_revocation, sign_transaction, transaction_id
from fluvial.single_call import SingleCall
from fluvial.strangers import as_expected, from_hex

T = TypeVar("T")

LOOK_S: Final = 0.1
WAIT_S: Final = 30.0
VALID_BLOCKS: Final = 1_000
"""For so many blocks a transaction may wait; then it is void."""


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class LedgerStanding(msgspec.Struct, frozen=True):
    """What of a ledger's status programs need: which ledger it is, in hexadecimal, and its newest height."""

    chain: str
    height: _Count

    @property
    def chain_id(self) -> bytes:
        """Which ledger it is. Raises RemoteProtocolError: that is not hexadecimal."""
        return from_hex(self.chain, what="status of the ledger")


class _Account(msgspec.Struct, frozen=True):
    nonce: _Count


class _Outcome(msgspec.Struct, frozen=True):
    height: _Count
    failed: str


class RemoteLedger:
    """The ledger of a peer.

    Args:
        client: connected to some peer.
        peer: holds the ledger.
    """

    def __init__(self, client: Client, peer: PeerId) -> None:
        self._client, self._peer = client, peer

    async def ask(self, function: str, *given: Any, service: str = "ledger") -> Any:
        """The result of a function of the service ``ledger``, or of another one that the peer has.

        Raises:
            ServiceError: it failed. Unreachable: it did not come in time. Refused: the peer does not serve this client.
        """
        call = SingleCall(self._peer, service, function, given)
        async with self._client.run(call.script, ttl_s=30, **call.values) as flow:
            ending = await flow.ending()
        return call.result(ending.function, ending.arguments)

    async def asked(self, function: str, *given: Any, answer: type[T], what: str, service: str = "ledger") -> T:
        """As :meth:`ask`, of a type.

        Args:
            function: of the service.
            given: its arguments.
            answer: the type, as msgspec has it; bytes are Base64.
            what: how the answer is called in errors.
            service: of the peer.

        Raises:
            RemoteProtocolError: the answer has another shape. Others as of :meth:`ask`.
        """
        return as_expected(await self.ask(function, *given, service=service), answer, what=what)

    async def standing(self) -> LedgerStanding:
        """Where the ledger stands; raises as :meth:`asked`."""
        return await self.asked("status", answer=LedgerStanding, what="status of the ledger")

    async def fact(self, module: str, key: bytes) -> ProvenFact:
        """What the ledger says at a key, with the proof. A ``LightClient`` checks it: the peer may lie. Raises as :meth:`asked`."""
        what = "fact of the ledger"
        return decode(await self.asked("prove", module, key.hex(), answer=bytes, what=what), ProvenFact, what=what)

    async def follow(self, light: LightClient, *, epoch: int) -> None:
        """Bring a light client to an epoch, with the proofs of who validated in those between.

        Args:
            light: what it accepts is signed by validators that it knows already.
            epoch: such as that of a fact.

        Raises:
            RemoteProtocolError: the peer has no such proofs. ServiceError and others as of :meth:`ask`.
        """
        while light.epoch < epoch:
            steps = await self.asked("epochs", light.epoch, answer=list[bytes], what="list of steps between epochs")
            for step in steps:
                light.follow(decode(step, ProvenFact, what="step to the next epoch"))
            if not steps:
                raise RemoteProtocolError(f"the peer does not show who validates after epoch {light.epoch}")

    async def submit(
        self, keys: KeyPair, bodies: Sequence[Body], *, fee_max: int = 0, wait_s: float = WAIT_S
    ) -> Sequence[dict[str, Any]]:
        """Bring transactions onto the ledger, one after the other, each in a later block than the one before.

        Args:
            keys: who signs and pays.
            bodies: what they do.
            fee_max: the highest fee of each, in units.
            wait_s: how long each may take to come into a block, in seconds.

        Returns:
            For each its id (``transaction``), the ``height`` of its block, why it had no effect (``failed``, or empty), and its ``nonce``.

        Raises:
            Refused: the ledger does not take one. Unreachable: it is in no block in time.
        """
        now = await self.standing()
        chain, end = now.chain_id, now.height + VALID_BLOCKS
        done = []
        for body in bodies:
            nonce = (await self.asked("account", str(keys.peer_id), answer=_Account, what="account")).nonce
            signed = sign_transaction(keys, chain, nonce, body, valid_until=end, fee_max=fee_max)
            done.append({**await self.bring(signed, wait_s=wait_s), "nonce": nonce})
        return done

    async def take_name(
        self, keys: KeyPair, name: str, target: str, *, fee_max: int = 0, wait_s: float = WAIT_S
    ) -> dict[str, Any]:
        """Take a name, and let it stand for something; returns and raises as :meth:`submit`.

        Two transactions: the first commits to the name without saying which, the second reveals it, so that nobody who sees the wish can be faster.
        """
        salt = secrets.token_bytes(32)
        bodies: list[Body] = [CommitName(commitment(name, salt, keys.public_key)), RevealName(name, salt, str(target))]
        return (await self.submit(keys, bodies, fee_max=fee_max, wait_s=wait_s))[-1]

    async def revoke(
        self, keys: KeyPair, statement: bytes, *, fee_max: int = 0, wait_s: float = WAIT_S
    ) -> dict[str, Any]:
        """Bring an issuer's signed revocation onto the ledger. The keys pay, and need not be the issuer's; returns and raises as :meth:`submit`, without a nonce."""
        now = await self.standing()
        chain, end = now.chain_id, now.height + VALID_BLOCKS
        signed = carry_revocation(keys, chain, statement, valid_until=end, fee_max=fee_max)
        return await self.bring(signed, wait_s=wait_s)

    async def bring(self, transaction: bytes, *, wait_s: float = WAIT_S) -> dict[str, Any]:
        """Bring one signed transaction onto the ledger; returns and raises as :meth:`submit`, without a nonce."""
        name = transaction_id(transaction).hex()
        try:
            await self.ask("submit", base64.b64encode(transaction).decode())
        except ServiceError as error:
            raise Refused(error.message, reason="transaction") from error
        with anyio.move_on_after(wait_s):
            while True:
                if (found := await self.ask("outcome", name)) is not None:
                    outcome = as_expected(found, _Outcome, what="outcome of a transaction")
                    return {"transaction": name, "height": outcome.height, "failed": outcome.failed}
                await anyio.sleep(LOOK_S)
        raise Unreachable(
            f"transaction {name} is in no block after {wait_s:g} s",
            hint=f"it may still come into one; `fluvial call 'ledger.outcome(\"{name}\")'` asks again",
        )
