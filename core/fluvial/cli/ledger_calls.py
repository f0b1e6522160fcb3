"""What ``fluvial consensus`` asks and tells a running peer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import click
import msgspec

from fluvial.addresses import Contact
from fluvial.cli import serving
from fluvial.cli.context import Invocation
from fluvial.cli.reaching import Reach
from fluvial.client import Client
from fluvial.encoding import decode
from fluvial.errors import ConfigError, Refused, ServiceError, Unreachable
from fluvial.hosting.genesis_file import read_genesis
from fluvial.identity import KeyPair, PeerId, verify
from fluvial.ledger.genesis import Account, Genesis, Membership, Parameters
from fluvial.ledger.licences import LicenceRecord
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.names import NameRecord
from fluvial.ledger.perimeters import (
    CreatePerimeter,
    LedgerPerimeter,
    PerimeterMember,
    PerimeterTerms,
    UpdatePerimeter,
    perimeter_id,
)
from fluvial.ledger.statements import KIND_NAMES, NOTHING, Evidence, Validator
from fluvial.ledger.transactions import Body, UpdateValidators, carry_revocation, sign_transaction, transaction_id

LOOK_S: Final = 0.1
VALID_BLOCKS: Final = 1_000
"""For so many blocks a transaction of the command line may wait; then it is void."""
_RECORDS: Final[dict[str, type[Any]]] = {
    "accounts": Account,
    "names": NameRecord,
    "perimeters": LedgerPerimeter,
    "licences": LicenceRecord,
    "validators": Membership,
    "parameters": Parameters,
}


async def call(client: Client, peer: PeerId, function: str, *given: Any) -> Any:
    """The result of a function of service ``ledger`` at a peer.

    Raises:
        ServiceError: it failed. Unreachable: it did not come in time.
    """
    values = {f"argument_{number}": value for number, value in enumerate(given)}
    script = (
        f'(xor (seq (call "{peer}" ("ledger" "{function}") [{" ".join(values)}] found)'
        ' (call %init_peer_id% ("return" "") [found true]))'
        ' (call %init_peer_id% ("return" "") [:error: false]))'
    )
    found, well = await client.run(script, ttl_s=30, **values)
    if not well:
        raise ServiceError(int(found["error_code"]), str(found["message"]), peer=peer)
    return found


def ask(way: Reach, function: str, *given: Any) -> Any:
    """The same of the relay, in a connection of its own."""

    async def work() -> Any:
        async with way.connect() as client:
            return await call(client, Contact.parse(way.relay).peer, function, *given)

    return serving.run(work)


# --- keys and records


def key_of(module: str, text: str) -> bytes:
    """The key that people write for a module.

    Raises:
        click.UsageError: it is none.
    """
    try:
        match module:
            case "accounts":
                return PeerId.parse(text).public_key
            case "names":
                return text.encode()
            case "validators" | "parameters" if text:
                raise ValueError("there is one record, without a key")
            case _:
                return bytes.fromhex(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r} is no key of {module}: {error}") from error


def genesis_of(invocation: Invocation, path: Path | None) -> Genesis:
    """The genesis that proofs are checked with: of an option, or of the settings.

    Raises:
        ConfigError: there is none.
    """
    if path is None:
        settings = invocation.configuration().settings
        if not settings.ledger.genesis:
            raise ConfigError("nothing is known of a ledger here", hint="give --genesis FILE")
        path = settings.base_dir / settings.ledger.genesis
    return read_genesis(path)


def keys_of(invocation: Invocation, key_file: Path | None) -> KeyPair:
    """Who signs: the key of an option, or the peer's own."""
    return KeyPair.load(key_file or invocation.configuration().settings.key_file)


def proven(way: Reach, genesis: Genesis, module: str, key: bytes) -> dict[str, Any]:
    """What the ledger says at a key, checked.

    Raises:
        RemoteProtocolError: the peer's proof shows something else.
    """
    answer = base64.b64decode(ask(way, "prove", module, key.hex()))
    fact = decode(answer, ProvenFact, what="fact of the ledger")
    value = LightClient(genesis).checked(fact, module, key)
    record = None if value is None else decode(value, _RECORDS[module], what=f"record of {module}")
    return {"height": fact.header.height, "block": fact.header.id.hex(), "value": _plain(record)}


def _plain(record: Any) -> Any:
    """A record as JSON: names of fields, public keys and hashes as people write them."""
    if isinstance(record, msgspec.Struct):
        return {name: _plain(getattr(record, name)) for name in record.__struct_fields__}
    if isinstance(record, tuple | list):
        return [_plain(one) for one in record]
    return record.hex() if isinstance(record, bytes) else record


def shown(value: Any) -> str:
    """A record for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


# --- offences


def offences(way: Reach) -> Sequence[dict[str, Any]]:
    """The validators that were caught, with their evidence, each signature checked here."""
    chain = bytes.fromhex(ask(way, "status")["chain"])
    found = []
    for one in ask(way, "offences"):
        evidence = decode(base64.b64decode(one["evidence"]), Evidence, what="evidence")
        sides = [
            {"said": KIND_NAMES[kind], "of": digest.hex(), "signature": signature.hex()}
            for kind, digest, signature in (evidence.first, evidence.second)
        ]
        found.append({**one, "convicts": evidence.convicts(chain, verify), "statements": sides})
    return found


def told(one: dict[str, Any]) -> Sequence[str]:
    """An offence for people."""
    verdict = "both signatures are its own" if one["convicts"] else "the signatures do NOT convict it"
    lines = [f"{one['validator']}: {one['offence']} in slot {one['slot']} of epoch {one['epoch']}; {verdict}"]
    for side in one["statements"]:
        what = "no block" if side["of"] == NOTHING.hex() else f"block {side['of'][:16]}…"
        lines.append(f"    {side['said']} {what}   signature {side['signature'][:32]}…")
    return lines


# --- transactions


def perimeter_body(
    keys: KeyPair,
    members: Sequence[str],
    administrators: Sequence[PeerId],
    threshold: int,
    perimeter: str | None,
    version: int | None,
) -> Body:
    """The transaction's body of the options of ``submit perimeter``.

    Raises:
        click.UsageError: they do not fit together.
    """
    terms = PerimeterTerms(
        members=tuple(_member(one) for one in members),
        policy=NOTHING,
        administrators=tuple(one.public_key for one in administrators) or (keys.public_key,),
        threshold=threshold,
    )
    if perimeter is None and version is None:
        return CreatePerimeter(terms)
    if perimeter is None or version is None:
        raise click.UsageError("--id and --version belong together")
    return UpdatePerimeter(key_of("perimeters", perimeter), version, terms)


def _member(text: str) -> PerimeterMember:
    service, found, peer = text.rpartition("@")
    try:
        if not found or not service:
            raise ValueError("write SERVICE@PEER, or *@PEER")
        return PerimeterMember(service, str(PeerId.parse(peer)))
    except ValueError as error:
        raise click.UsageError(f"{text!r} is no member: {error}") from error


def validators_body(added: Sequence[str], removed: Sequence[str]) -> Body:
    """The transaction's body of the options of ``submit validators``.

    Raises:
        click.UsageError: one is no peer, or no number of votes.
    """
    try:
        add = [(peer, int(power) if found else 1) for peer, found, power in (one.partition("=") for one in added)]
        if any(power < 1 for _, power in add):
            raise ValueError("a validator has at least one vote")
        return UpdateValidators(
            tuple(Validator(str(PeerId.parse(peer)), power) for peer, power in add),
            tuple(str(PeerId.parse(one)) for one in removed),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def submit_revocation(way: Reach, keys: KeyPair, statement: bytes, *, fee_max: int, wait_s: float) -> dict[str, Any]:
    """Bring a revocation onto the ledger; raises as :func:`submit`."""

    async def work() -> dict[str, Any]:
        peer = Contact.parse(way.relay).peer
        async with way.connect() as client:
            now = await call(client, peer, "status")
            end = now["height"] + VALID_BLOCKS
            signed = carry_revocation(keys, bytes.fromhex(now["chain"]), statement, valid_until=end, fee_max=fee_max)
            return await _bring(client, peer, signed, wait_s)

    return serving.run(work)


def new_perimeter(keys: KeyPair, nonce: int) -> str:
    """The id of a perimeter that a transaction has made."""
    return perimeter_id(keys.public_key, nonce).hex()


def submit(
    way: Reach, keys: KeyPair, bodies: Sequence[Body], *, fee_max: int, wait_s: float
) -> Sequence[dict[str, Any]]:
    """Bring transactions onto the ledger, one after the other, each in a later block than the one before.

    Raises:
        Refused: the ledger does not take one. Unreachable: it is in no block in time.
    """

    async def work() -> list[dict[str, Any]]:
        peer = Contact.parse(way.relay).peer
        async with way.connect() as client:
            now = await call(client, peer, "status")
            done = []
            for body in bodies:
                nonce = (await call(client, peer, "account", str(keys.peer_id)))["nonce"]
                signed = sign_transaction(
                    keys,
                    bytes.fromhex(now["chain"]),
                    nonce,
                    body,
                    valid_until=now["height"] + VALID_BLOCKS,
                    fee_max=fee_max,
                )
                done.append({**await _bring(client, peer, signed, wait_s), "nonce": nonce})
            return done

    return serving.run(work)


def submit_signed(way: Reach, transaction: bytes, *, wait_s: float) -> dict[str, Any]:
    """Bring one signed transaction onto the ledger; raises as :func:`submit`."""

    async def work() -> dict[str, Any]:
        async with way.connect() as client:
            return await _bring(client, Contact.parse(way.relay).peer, transaction, wait_s)

    return serving.run(work)


async def _bring(client: Client, peer: PeerId, transaction: bytes, wait_s: float) -> dict[str, Any]:
    name = transaction_id(transaction).hex()
    try:
        await call(client, peer, "submit", base64.b64encode(transaction).decode())
    except ServiceError as error:
        raise Refused(error.message, reason="transaction") from error
    with anyio.move_on_after(wait_s):
        while True:
            found = await call(client, peer, "outcome", name)
            if found is not None:
                return {"transaction": name, "height": found["height"], "failed": found["failed"]}
            await anyio.sleep(LOOK_S)
    raise Unreachable(
        f"transaction {name} is in no block after {wait_s:g} s",
        hint=f"it may still come into one; `fluvial call 'ledger.outcome(\"{name}\")'` asks again",
    )
