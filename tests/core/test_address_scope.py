"""Which addresses a peer may dial because somebody named them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from fluvial.address_scope import AddressScope, destination, host_refusal, refusal, scope_of, scope_of_host, widest
from fluvial.addresses import Address
from hypothesis import given
from hypothesis import strategies as st

PUBLIC, PRIVATE, LOCAL, SPECIAL = AddressScope
HOSTS = {
    PUBLIC: ("8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1", "64:ff9b::808:808"),
    PRIVATE: (
        *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00::1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1"),
    ),
    LOCAL: ("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    SPECIAL: (
        *("0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
        *("::", "fe80::1", "fe80::1%eth0", "ff02::1", "fec0::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
        *("::7f00:1", "64:ff9b:1::1", "100::1", "5f00::1", "::ffff:0:127.0.0.1", "::ffff:169.254.169.254"),
    ),
}  # fmt: skip
NAMES = {
    PUBLIC: ("relay.example.org", "relay.example.org.", "xn--e1afmkfd.example"),
    PRIVATE: ("db", "printer.local", "vault.internal", "nas.lan", "gw.home.arpa", "x.corp"),
    LOCAL: ("localhost", "a.localhost", "LOCALHOST."),
}


@pytest.mark.parametrize(("scope", "host"), [(scope, host) for scope, hosts in HOSTS.items() for host in hosts])
def test_a_host_has_the_scope_of_where_packets_go(scope: AddressScope, host: str) -> None:
    assert scope_of_host(host) is scope


@pytest.mark.parametrize(("scope", "name"), [(scope, name) for scope, names in NAMES.items() for name in names])
def test_a_name_is_judged_by_its_form(scope: AddressScope, name: str) -> None:
    assert scope_of(Address(host_kind="dns", host=name, port=7771)) is scope


@given(st.ip_addresses(v=4))
def test_an_ipv4_host_has_one_scope_in_every_spelling(host: IPv4Address) -> None:
    spellings = (str(host), f"::ffff:{host}", f"64:ff9b::{host}")
    assert {destination(one) for one in spellings} == {host}
    assert len({scope_of_host(one) for one in spellings}) == 1


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str))
def test_a_narrower_scope_dials_whatever_a_wider_one_does(host: str) -> None:
    dialled = [not host_refusal(host, own) for own in AddressScope]
    assert dialled == sorted(dialled)
    assert dialled[SPECIAL], "any is any"
    if scope_of_host(host) is SPECIAL:
        assert not any(dialled[:SPECIAL])


@pytest.mark.parametrize("port", [0, 22, 25, 80, 1023])
def test_ports_of_well_known_services_are_left_alone(port: int) -> None:
    told = Address(host_kind="ip4", host="8.8.8.8", port=port)
    assert "well-known" in refusal(told, PUBLIC)
    assert not refusal(replace(told, port=443), PUBLIC)
    assert not refusal(told, SPECIAL)


@pytest.mark.parametrize("name", ["127.1", "0x7f.1", "2130706433", "0X7F.0.0.1", "1.2.3.4.", "host.0x"])
def test_numbers_are_no_names(name: str) -> None:
    told = Address(host_kind="dns4", host=name, port=7_771)
    assert "is no name but an IPv4 address in another form" in refusal(told, AddressScope.LOCAL)
    assert not refusal(replace(told, configured=True), PUBLIC)


@pytest.mark.parametrize("name", ["example.org", "a1.b2", "7.example", "0x.example.com", "1a"])
def test_names_with_numbers_in_them_are_names(name: str) -> None:
    assert not refusal(Address(host_kind="dns", host=name, port=7_771), AddressScope.LOCAL)


def test_what_the_owner_configured_is_not_judged() -> None:
    for hosts in HOSTS.values():
        for host in hosts:
            kind = "ip6" if ":" in host else "ip4"
            assert not refusal(Address(host_kind=kind, host=host, port=22, configured=True), PUBLIC)


def test_a_peer_lives_where_most_can_reach_it() -> None:
    def at(*hosts: str) -> list[Address]:
        return [Address(host_kind="ip4", host=host, port=1) for host in hosts]

    assert widest(at("127.0.0.1"), default=PUBLIC) is LOCAL
    assert widest(at("127.0.0.1", "10.0.0.1"), default=PUBLIC) is PRIVATE
    assert widest(at("10.0.0.1", "8.8.8.8"), default=LOCAL) is PUBLIC
    assert widest(at("0.0.0.0"), default=LOCAL) is LOCAL
    assert widest([], default=PRIVATE) is PRIVATE
