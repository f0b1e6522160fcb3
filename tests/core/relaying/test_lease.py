"""Leases: whose they are, for whom, and how long."""

from __future__ import annotations

import msgspec
import pytest
from fluvial.encoding import encode
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import KeyPair
from fluvial.relaying.lease import LEASE_BYTES_MAX, LIFETIME_MS, Lease, RelayKind, decode_lease, make_lease

CLIENT, RELAY, OTHER = (KeyPair.from_secret(letter * 32) for letter in (b"c", b"r", b"o"))
NETWORK = "test"
NOW = 1_000_000_000


def lease(**changes: object) -> Lease:
    return msgspec.structs.replace(make_lease(CLIENT, RELAY.peer_id, network=NETWORK, now_ms=NOW), **changes)


def check(one: Lease, *, now_ms: int = NOW, network: str = NETWORK, relay: KeyPair = RELAY) -> None:
    one.check(network=network, client=CLIENT.peer_id, relay=relay.peer_id, now_ms=now_ms)


def test_a_lease_holds_until_its_end() -> None:
    check(lease())
    check(lease(), now_ms=NOW + LIFETIME_MS - 1)
    with pytest.raises(Refused):
        check(lease(), now_ms=NOW + LIFETIME_MS)


@pytest.mark.parametrize(
    "changes",
    [
        {"client": OTHER.peer_id.public_key},
        {"relay": OTHER.peer_id.public_key},
        {"expires_at_ms": NOW + LIFETIME_MS + 1},
        {"expires_at_ms": NOW + 10 * LIFETIME_MS},
        {"issued_at_ms": NOW - 1},
        {"expires_at_ms": NOW},
        {"signature": bytes(64)},
    ],
)
def test_a_changed_lease_holds_no_more(changes: dict[str, object]) -> None:
    with pytest.raises(Refused):
        check(lease(**changes))


def test_it_is_good_for_one_network_and_one_relay() -> None:
    with pytest.raises(Refused):
        check(lease(), network="other")
    with pytest.raises(Refused):
        check(lease(), relay=OTHER)


def test_one_of_the_future_does_not_hold_yet() -> None:
    with pytest.raises(Refused):
        check(lease(), now_ms=NOW - 61_000)


def test_it_travels_and_nothing_else_does() -> None:
    data = encode(lease())
    assert len(data) <= LEASE_BYTES_MAX
    assert decode_lease(data) == lease()
    with pytest.raises(RemoteProtocolError):
        decode_lease(data[:-1])


def test_only_with_a_lease_a_peer_may_stand_at_the_key_of_a_client() -> None:
    leases = {CLIENT.peer_id: lease()}
    kind = RelayKind(NETWORK, lambda: NOW, leases.get)
    body = str(CLIENT.peer_id).encode()
    solution = kind.solve(body, RELAY.peer_id)
    assert solution is not None
    assert kind.solves(body, RELAY.peer_id, solution)
    assert not kind.solves(body, OTHER.peer_id, solution)
    assert not kind.solves(str(OTHER.peer_id).encode(), RELAY.peer_id, solution)
    assert not kind.solves(body, RELAY.peer_id, b"")
    assert kind.solve(body, OTHER.peer_id) is None
    with pytest.raises(RemoteProtocolError):
        kind.solves(b"nobody", RELAY.peer_id, solution)
