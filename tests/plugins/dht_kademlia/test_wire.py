"""Messages as bytes: what is sent arrives, and nothing else is taken."""

from __future__ import annotations

import pytest
from fluvial.addresses import Address, Contact
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.dht_kademlia.peers import peer_of, record_of

KEYS = st.integers(min_value=0, max_value=2**256 - 1).map(Key)
NAMES = st.sampled_from("abcdefgh")
CHALLENGES = st.one_of(
    st.text(min_size=1, max_size=40).map(open_challenge),
    NAMES.map(lambda name: owned_challenge(peer_of(name), 2, b"n")),
)
RECORDS = st.builds(
    lambda name, challenge, value: (challenge, record_of(name, challenge, value=value)),
    NAMES,
    CHALLENGES,
    st.binary(max_size=100),
)
ADDRESSES = st.builds(
    lambda host, port: Address(host_kind="ip4", host=f"10.0.0.{host}", port=port),
    st.integers(0, 255),
    st.integers(0, 65535),
)
CONTACTS = st.builds(
    lambda name, addresses: Contact(peer_of(name), tuple(one.with_peer(peer_of(name)) for one in addresses)),
    NAMES,
    st.lists(ADDRESSES, max_size=8),
)
REQUESTS: st.SearchStrategy[DhtRequest] = st.one_of(
    st.just(messages.Ping()),
    KEYS.map(messages.FindPeers),
    st.builds(messages.FindProviders, KEYS, st.integers(0, 64)),
    RECORDS.map(lambda both: messages.AddProvider(*both)),
)
ANSWERS: st.SearchStrategy[DhtAnswer] = st.one_of(
    st.just(messages.Pong()),
    st.lists(CONTACTS, max_size=20).map(lambda found: messages.PeersFound(tuple(found))),
    st.builds(
        lambda records, contacts: messages.ProvidersFound(tuple(one for _, one in records), tuple(contacts)),
        st.lists(RECORDS, max_size=5),
        st.lists(CONTACTS, max_size=20),
    ),
    st.builds(messages.RecordStored, st.booleans(), st.text(max_size=32)),
)


@given(REQUESTS)
def test_requests_arrive_as_they_were_sent(request: DhtRequest) -> None:
    data = wire.encode_request(request)
    assert len(data) <= wire.REQUEST_BYTES_MAX
    assert wire.decode_request(data) == request


@given(ANSWERS)
def test_answers_arrive_as_they_were_sent(answer: DhtAnswer) -> None:
    data = wire.encode_answer(answer)
    assert len(data) <= wire.ANSWER_BYTES_MAX
    assert wire.decode_answer(data) == answer


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for decode, again in ((wire.decode_request, wire.encode_request), (wire.decode_answer, wire.encode_answer)):
        try:
            value = decode(data)
        except RemoteProtocolError:
            continue
        assert again(value) == data  # type: ignore[operator]  # of the same pair


@given(st.one_of(REQUESTS.map(wire.encode_request), ANSWERS.map(wire.encode_answer)), st.data())
def test_a_message_with_a_changed_byte_is_another_one_or_refused(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    for decode, again in ((wire.decode_request, wire.encode_request), (wire.decode_answer, wire.encode_answer)):
        try:
            value = decode(changed)
        except RemoteProtocolError:
            continue
        assert again(value) == changed  # type: ignore[operator]


def test_an_answer_is_cut_to_what_every_peer_takes_the_best_first() -> None:
    challenge = open_challenge("much")
    records = tuple(record_of(f"p{number}", challenge, value=b"v" * 1_000) for number in range(64))
    contacts = tuple(
        Contact(peer_of(f"c{n}"), tuple(Address(host_kind="dns", host="h" * 200, port=p) for p in range(8)))
        for n in range(30)
    )
    data = wire.encode_answer(messages.ProvidersFound(records, contacts))
    assert len(data) <= wire.ANSWER_BYTES_MAX
    found = wire.decode_answer(data)
    assert isinstance(found, messages.ProvidersFound)
    assert found.records == records[: len(found.records)]
    assert 30 <= len(found.records) < 64
    assert [one.peer for one in found.contacts] == [one.peer for one in contacts[: len(found.contacts)]]
    assert found.contacts


@pytest.mark.parametrize(
    "form",
    [
        [1, b"short"],
        [2, b"k" * 32, -1],
        [4],
        [0, "more"],
        [3, ["open", b"x" * 2_000], []],
    ],
)
def test_forms_out_of_bounds_are_refused(form: object) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.decode_request(encode(form))


def test_an_answer_with_a_contact_of_somebody_elses_address_is_refused() -> None:
    address = Address.parse("/ip4/10.0.0.1/tcp/1").with_peer(peer_of("other"))
    with pytest.raises(RemoteProtocolError):
        wire.decode_answer(encode([1, [[str(peer_of("a")), [str(address)]]]]))
