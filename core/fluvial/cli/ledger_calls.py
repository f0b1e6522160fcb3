"""What ``fluvial consensus`` asks and tells a running peer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict, TypeVar

import click
import msgspec

from fluvial.addresses import Contact
from fluvial.cli import serving
from fluvial.cli.context import Invocation
from fluvial.cli.reaching import Reach, has_peer, reach
from fluvial.encoding import decode
from fluvial.errors import ConfigError, Refused, ServiceError
from fluvial.hosting.genesis_file import read_genesis
from fluvial.identity import KeyPair, PeerId, verify
from fluvial.ledger.genesis import Account, Genesis, Membership, Parameters
from fluvial.ledger.licences import LicenceRecord
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.names import NAMES, NameRecord
from fluvial.ledger.perimeters import (
    CreatePerimeter,
    LedgerPerimeter,
    PerimeterMember,
    PerimeterTerms,
    UpdatePerimeter,
    perimeter_id,
)
from fluvial.ledger.revocations import RevocationRecord, revocation_key
from fluvial.ledger.statements import KIND_NAMES, NOTHING, Evidence, Validator
from fluvial.ledger.transactions import Body, UpdateValidators
from fluvial.remote_ledger import RemoteLedger
from fluvial.services import Status
from fluvial.strangers import as_expected, printable, shaped

T = TypeVar("T")

STRANGER: Final = (
    "a stranger has asked, since the peer's own key cannot connect to the peer itself: with --key FILE the owner of another key signs and asks, "
    "with --relay ADDRESS another peer is asked"
)
_RECORDS: Final[dict[str, type[Any]]] = {
    "accounts": Account,
    "names": NameRecord,
    "perimeters": LedgerPerimeter,
    "licences": LicenceRecord,
    "revocations": RevocationRecord,
    "validators": Membership,
    "parameters": Parameters,
}


def through(way: Reach, work: Callable[[RemoteLedger], Awaitable[T]]) -> T:
    """What some work with the ledger of the relay comes to, in a connection of its own; raises as the work.

    A peer that refuses a stranger is no riddle then: the error says that a stranger has asked, and what to do.
    """

    async def connected() -> T:
        async with way.connect() as client:
            return await work(RemoteLedger(client, Contact.parse(way.relay).peer))

    try:
        return serving.run(connected)
    except Refused as error:
        if way.key_file is None and not error.hint and error.reason != "transaction":
            raise Refused(error.message, reason=error.reason, hint=STRANGER) from error
        raise


class ValidatorAnswer(TypedDict):
    """Who decides, as a peer says."""

    peer: str
    power: int


class HeldAnswer(TypedDict):
    """A voucher that a peer holds, as it says."""

    licence: str
    licensee: str
    service: str
    amount: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    used: int
    signature: str


class OffenceAnswer(TypedDict):
    """A validator that was caught, as a peer says."""

    validator: str
    offence: str
    epoch: int
    slot: int
    evidence: str


def ask(way: Reach, function: str, *given: Any, answer: type[T], what: str) -> T:
    """The result of a function of the service ``ledger``, which has the shape of a type and is called so in errors; raises as ``RemoteLedger.asked``."""
    return shaped(through(way, lambda ledger: ledger.ask(function, *given)), answer, what=what)


# --- keys and records


def key_of(module: str, text: str, network: str = "") -> bytes:
    """The key that people write for a module.

    Args:
        module: of the ledger.
        text: the key.
        network: where revocations hold.

    Raises:
        click.UsageError: it is none.
    """
    try:
        match module:
            case "accounts":
                return PeerId.parse(text).public_key
            case "names":
                return text.encode()
            case "revocations":
                issuer, _, subject = text.partition(":")
                return revocation_key(network, PeerId.parse(issuer).public_key, PeerId.parse(subject).public_key)
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


def way_of(
    invocation: Invocation, keys: KeyPair, *, relay: str | None, network: str | None, key_file: Path | None
) -> Reach:
    """The way of a transaction: who signs also brings it, so that a peer that does not serve everybody takes it.

    For the peer's own key that would be a connection to itself; then a stranger brings it, and :func:`through` says so if the peer refuses strangers.
    """
    way = reach(invocation, relay=relay, network=network, key_file=None)
    return way if keys.peer_id == Contact.parse(way.relay).peer else replace(way, key_file=key_file)


def proven(way: Reach, genesis: Genesis, module: str, key: bytes) -> dict[str, Any]:
    """What the ledger says at a key, checked.

    Raises:
        RemoteProtocolError: the peer's proof shows something else.
    """
    light = LightClient(genesis)

    async def look(ledger: RemoteLedger) -> ProvenFact:
        found = await ledger.fact(module, key)
        await ledger.follow(light, epoch=found.header.epoch)
        return found

    fact = through(way, look)
    value = light.checked(fact, module, key)
    record = None if value is None else decode(value, _RECORDS[module], what=f"record of {module}")
    return {"height": fact.header.height, "block": fact.header.id.hex(), "value": _plain(record)}


def target_of(invocation: Invocation, way: Reach, name: str) -> str:
    """What a name stands for; raises as ``peer_called`` of ``ledger_options.py``."""
    if not has_peer(invocation) or not invocation.configuration().settings.ledger.genesis:
        try:
            return through(
                way, lambda ledger: ledger.asked("resolve", name, service="name", answer=str, what="target of a name")
            )
        except ServiceError as error:
            if error.status != Status.UNKNOWN_SERVICE:
                raise
            raise ServiceError(
                error.status,
                f"the relay holds no ledger on which {name!r} could be looked up",
                peer=error.peer,
                hint="give the peer's id, 12D3KooW…: `fluvial key show` prints it there",
            ) from error
    found = proven(way, genesis_of(invocation, None), NAMES, name.encode())
    if found["value"] is None or found["height"] > found["value"]["until"]:
        raise ServiceError(404, f"nobody has the name {name}, as of height {found['height']}")
    return str(found["value"]["target"])


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
    chain = through(way, RemoteLedger.standing).chain_id
    found = []
    for one in ask(way, "offences", answer=list[OffenceAnswer], what="list of offences"):
        evidence = decode(as_expected(one["evidence"], bytes, what="evidence"), Evidence, what="evidence")
        sides = [
            {"said": KIND_NAMES[kind], "of": digest.hex(), "signature": signature.hex()}
            for kind, digest, signature in (evidence.first, evidence.second)
        ]
        found.append({**one, "convicts": evidence.convicts(chain, verify), "statements": sides})
    return found


def told(one: dict[str, Any]) -> Sequence[str]:
    """An offence for people."""
    verdict = "both signatures are its own" if one["convicts"] else "the signatures do NOT convict it"
    lines = [
        f"{printable(one['validator'])}: {printable(one['offence'])} in slot {one['slot']} of epoch {one['epoch']}; {verdict}"
    ]
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


def new_perimeter(keys: KeyPair, nonce: int) -> str:
    """The id of a perimeter that a transaction has made."""
    return perimeter_id(keys.public_key, nonce).hex()
