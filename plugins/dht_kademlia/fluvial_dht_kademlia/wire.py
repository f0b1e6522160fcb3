"""The wire form of the machine's messages: canonical, and bounded in every part. Pure.

A message is an array: the number of its kind, then its fields (``fluvial.encoding``). Contacts are ``[peer id, [address, …]]``, challenges and records
as they are hashed and signed.

======= =================== ================================= ===================================
number  request             fields                            answer, with the same number
======= =================== ================================= ===================================
0       ping                –                                 –
1       find peers          key                               contacts
2       find providers      key, limit                        records, contacts
3       add provider        challenge, record                 accepted, reason
======= =================== ================================= ===================================

An answer has at most :data:`RECORDS_BYTES_MAX` of records and :data:`CONTACTS_BYTES_MAX` of contacts, the best first; what does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec
from fluvial.addresses import Address, Contact
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import KEY_BYTES, Key, key_bytes
from fluvial_dht_kademlia.machine.limits import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.records import ProviderRecord

PROTOCOL: Final = "/kademlia/dht/1"
REQUEST_BYTES_MAX: Final = 16_384
"""A record with a solution and a challenge of the largest size fit in."""
RECORDS_BYTES_MAX: Final = 40_960
CONTACTS_BYTES_MAX: Final = 20_480
ANSWER_BYTES_MAX: Final = RECORDS_BYTES_MAX + CONTACTS_BYTES_MAX + 64
"""Below 65,536 with the frame's header: what every peer takes."""
CONTACTS_MAX: Final = 96
CONTACTS_REMEMBERED: Final = 2_048
"""Contacts that came and are not read again, of at most 5 KB each."""
CHARACTERS_REMEMBERED: Final = 1_024
"""What the addresses of a contact may have that is remembered: eight by way of relays have 800. One with long names takes up to 17 KB."""
FORMS_REMEMBERED: Final = 1_024
"""Contacts of this peer's own table, which are sent."""
RECORDS_MAX: Final = 1_024

KeyField: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
AddressField: TypeAlias = Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)]


class _Form(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message or a part of one."""


class ContactForm(_Form, frozen=True):
    """A peer and where it can be reached."""

    peer: Annotated[str, msgspec.Meta(max_length=64)]
    addresses: Annotated[tuple[AddressField, ...], msgspec.Meta(max_length=ADDRESSES_MAX)]


ContactsField: TypeAlias = Annotated[tuple[ContactForm, ...], msgspec.Meta(max_length=CONTACTS_MAX)]


class PingForm(_Form, frozen=True, tag=0):
    """See the module; as the next ones."""


class FindPeersForm(_Form, frozen=True, tag=1):
    """A request."""

    target: KeyField


class FindProvidersForm(_Form, frozen=True, tag=2):
    """A request."""

    key: KeyField
    limit: Annotated[int, msgspec.Meta(ge=0, le=RECORDS_MAX)]


class AddProviderForm(_Form, frozen=True, tag=3):
    """A request."""

    challenge: Challenge
    record: ProviderRecord


class PongForm(_Form, frozen=True, tag=0):
    """An answer; as the next ones."""


class PeersFoundForm(_Form, frozen=True, tag=1):
    """An answer."""

    contacts: ContactsField


class ProvidersFoundForm(_Form, frozen=True, tag=2):
    """An answer."""

    records: Annotated[tuple[ProviderRecord, ...], msgspec.Meta(max_length=RECORDS_MAX)]
    contacts: ContactsField


class RecordStoredForm(_Form, frozen=True, tag=3):
    """An answer."""

    accepted: bool
    reason: Annotated[str, msgspec.Meta(max_length=32)]


_RequestForm: TypeAlias = PingForm | FindPeersForm | FindProvidersForm | AddProviderForm
_AnswerForm: TypeAlias = PongForm | PeersFoundForm | ProvidersFoundForm | RecordStoredForm


def encode_request(request: DhtRequest) -> bytes:
    """A request as it is sent."""
    match request:
        case messages.Ping():
            return encode(PingForm())
        case messages.FindPeers(target):
            return encode(FindPeersForm(key_bytes(target)))
        case messages.FindProviders(key, limit):
            return encode(FindProvidersForm(key_bytes(key), limit))
        case messages.AddProvider(challenge, record):
            return encode(AddProviderForm(challenge, record))


def decode_request(data: bytes) -> DhtRequest:
    """A request that arrived.

    Raises:
        RemoteProtocolError: the bytes are none.
    """
    form: _RequestForm = decode(data, _RequestForm, what="request of the DHT")  # type: ignore[arg-type]  # a union
    match form:
        case PingForm():
            return messages.Ping()
        case FindPeersForm(target=target):
            return messages.FindPeers(_key(target))
        case FindProvidersForm(key=key, limit=limit):
            return messages.FindProviders(_key(key), limit)
        case AddProviderForm(challenge=challenge, record=record):
            return messages.AddProvider(challenge, record)


def encode_answer(answer: DhtAnswer) -> bytes:
    """An answer as it is sent."""
    match answer:
        case messages.Pong():
            return encode(PongForm())
        case messages.PeersFound(contacts):
            return encode(PeersFoundForm(_contact_forms(contacts)))
        case messages.ProvidersFound(records, contacts):
            fitting = _fitting(records)
            return encode(ProvidersFoundForm(fitting, _contact_forms(contacts)))
        case messages.RecordStored(accepted, reason):
            return encode(RecordStoredForm(accepted, reason[:32]))


def decode_answer(data: bytes, *, contacts_max: int = CONTACTS_MAX) -> DhtAnswer:
    """An answer that arrived.

    Args:
        data: as it came.
        contacts_max: how many of its contacts are wanted, the first ones; the others must have the form of contacts, and are not looked at.

    Raises:
        RemoteProtocolError: the bytes are none, or longer than answers may be.
    """
    if len(data) > ANSWER_BYTES_MAX:
        raise RemoteProtocolError(f"an answer of the DHT has {ANSWER_BYTES_MAX} bytes at most, not {len(data)}")
    form: _AnswerForm = decode(data, _AnswerForm, what="answer of the DHT")  # type: ignore[arg-type]  # a union
    match form:
        case PongForm():
            return messages.Pong()
        case PeersFoundForm(contacts=contacts):
            return messages.PeersFound(_contacts(contacts[:contacts_max]))
        case ProvidersFoundForm(records=records, contacts=contacts):
            return messages.ProvidersFound(records, _contacts(contacts[:contacts_max]))
        case RecordStoredForm(accepted=accepted, reason=reason):
            return messages.RecordStored(accepted, reason)


def _key(data: bytes) -> Key:
    return Key(int.from_bytes(data, "big"))


def _contact_forms(contacts: Iterable[Contact]) -> tuple[ContactForm, ...]:
    kept: list[ContactForm] = []
    room = CONTACTS_BYTES_MAX
    for contact in contacts:
        form, size = _contact_form(contact)
        room -= size
        if room < 0 or len(kept) == CONTACTS_MAX:
            break
        kept.append(form)
    return tuple(kept)


@lru_cache(maxsize=FORMS_REMEMBERED)
def _contact_form(contact: Contact) -> tuple[ContactForm, int]:
    """The form, with addresses that do not repeat the peer, and its size in bytes."""
    texts = (str(_without_peer(address)) for address in contact.addresses[:ADDRESSES_MAX])
    form = ContactForm(str(contact.peer), tuple(text for text in texts if len(text) <= ADDRESS_CHARACTERS_MAX))
    return form, len(encode(form))


def _without_peer(address: Address) -> Address:
    return Address(host_kind=address.host_kind, host=address.host, port=address.port, relay=address.relay)


def _fitting(records: Iterable[ProviderRecord]) -> tuple[ProviderRecord, ...]:
    """The first records that have room together."""
    kept: list[ProviderRecord] = []
    room = RECORDS_BYTES_MAX
    for record in records:
        room -= len(encode(record))
        if room < 0 or len(kept) == RECORDS_MAX:
            break
        kept.append(record)
    return tuple(kept)


def _contacts(forms: Iterable[ContactForm]) -> tuple[Contact, ...]:
    return tuple(map(_contact, forms))


def _contact(form: ContactForm) -> Contact:
    light = sum(map(len, form.addresses)) <= CHARACTERS_REMEMBERED and all(map(str.isascii, form.addresses))
    return _remembered_contact(form) if light else _read_contact(form)


def _read_contact(form: ContactForm) -> Contact:
    try:
        peer = PeerId.parse(form.peer)
        addresses = tuple(map(Address.parse, form.addresses))
    except ValueError as error:
        raise RemoteProtocolError(f"this is no contact of a peer: {error}") from error
    if any(address.peer is not None for address in addresses):
        raise RemoteProtocolError("an address in a contact does not repeat the peer")
    return Contact(peer, tuple(address.with_peer(peer) for address in addresses))


_remembered_contact: Final = lru_cache(maxsize=CONTACTS_REMEMBERED)(_read_contact)
