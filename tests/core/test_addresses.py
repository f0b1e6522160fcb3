"""Multiaddrs and contacts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fluvial.addresses import ADDRESS_CHARACTERS_MAX, Address, Contact
from fluvial.identity import KeyPair
from hypothesis import given, settings
from hypothesis import strategies as st

PEER = KeyPair.from_secret(b"1" * 32).peer_id
RELAY = KeyPair.from_secret(b"2" * 32).peer_id

HOSTS = st.one_of(
    st.tuples(st.just("ip4"), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just("ip6"), st.ip_addresses(v=6).map(str)),
    st.tuples(
        st.sampled_from(["dns", "dns4", "dns6"]),
        st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){0,3}", fullmatch=True),
    ),
)


@given(HOSTS, st.integers(0, 65535), st.sampled_from([None, PEER]), st.sampled_from([None, RELAY]))
def test_address_comes_back_from_its_text(host: tuple[str, str], port: int, peer: object, relay: object) -> None:
    address = Address(host_kind=host[0], host=host[1], port=port, peer=peer, relay=relay)  # type: ignore[arg-type]  # sampled
    assert Address.parse(str(address)) == address


def test_direct_address_may_say_who_is_there() -> None:
    assert Address.parse("/ip4/127.0.0.1/tcp/7771") == Address(host_kind="ip4", host="127.0.0.1", port=7771)
    address = Address.parse(f"/dns4/relay.example.org/tcp/7771/p2p/{PEER}")
    assert (address.peer, address.relay) == (PEER, None)
    assert Address.parse("/ip6/::1/tcp/1").with_peer(PEER) == Address.parse(f"/ip6/::1/tcp/1/p2p/{PEER}")


def test_circuit_address_names_relay_and_peer() -> None:
    address = Address.parse(f"/ip4/127.0.0.1/tcp/7771/p2p/{RELAY}/p2p-circuit/p2p/{PEER}")
    assert (address.relay, address.peer) == (RELAY, PEER)
    open_end = Address.parse(f"/ip4/127.0.0.1/tcp/7771/p2p/{RELAY}/p2p-circuit")
    assert (open_end.relay, open_end.peer) == (RELAY, None)
    assert open_end.with_peer(PEER) == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no address like"),
        ("127.0.0.1:7771", "no address like"),
        ("ip4/127.0.0.1/tcp/7771", "no address like"),
        ("/ip4/127.0.0.1", "no address like"),
        ("/ip4/127.0.0.1/udp/7771", "no address like"),
        ("/unix/tmp/tcp/7771", "no address like"),
        ("/ip4/relay.example.org/tcp/7771", "no IP address"),
        ("/ip4/::1/tcp/7771", "no IPv4 address"),
        ("/ip6/127.0.0.1/tcp/7771", "no IPv6 address"),
        ("/dns//tcp/7771", "missing or too long"),
        (f"/dns/{'a' * 254}/tcp/7771", "missing or too long"),
        ("/ip4/127.0.0.1/tcp/65536", "no TCP port"),
        ("/ip4/127.0.0.1/tcp/-1", "no TCP port"),
        ("/ip4/127.0.0.1/tcp/", "no TCP port"),
        ("/ip4/127.0.0.1/tcp/١", "no TCP port"),
        (f"/ip4/127.0.0.1/tcp/{'9' * 400}", "no TCP port"),
        ("/ip4/127.0.0.1/tcp/7771/p2p", "cannot read 'p2p'"),
        ("/ip4/127.0.0.1/tcp/7771/p2p/QmNotEd25519", "no peer id"),
        ("/ip4/127.0.0.1/tcp/7771/p2p-circuit", "needs the relay"),
        (f"/ip4/127.0.0.1/tcp/7771/p2p/{RELAY}/p2p-circuit/p2p", "cannot read 'p2p'"),
        (f"/ip4/127.0.0.1/tcp/7771/p2p/{PEER}/ws", "cannot read 'ws'"),
        ("/ip4/127.0.0.1/tcp/7771/", "cannot read"),
        ("/dns/" + "a" * ADDRESS_CHARACTERS_MAX + "/tcp/1", f"more than {ADDRESS_CHARACTERS_MAX} characters"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        Address.parse(text)
    assert len(str(caught.value)) < 2 * ADDRESS_CHARACTERS_MAX


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["", "ip4", "dns", "tcp", "p2p", "p2p-circuit", "1.2.3.4", "7", PEER, "x"]), max_size=10)
)
def test_random_parts_are_read_or_refused(parts: list[str]) -> None:
    text = "/".join(parts)
    with suppress(ValueError):
        assert str(Address.parse(text)) == text


def test_contact_needs_to_know_who_is_there() -> None:
    text = f"/ip4/127.0.0.1/tcp/7771/p2p/{PEER}"
    assert Contact.parse(text) == Contact(PEER, (Address.parse(text),))
    with pytest.raises(ValueError, match=r"add /p2p/12D3KooW"):
        Contact.parse("/ip4/127.0.0.1/tcp/7771")
