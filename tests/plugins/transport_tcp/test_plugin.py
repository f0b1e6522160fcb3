"""What the distribution offers, and how its options are checked."""

from __future__ import annotations

import random
from importlib.metadata import entry_points
from types import ModuleType

import msgspec
import pytest
from fluvial.offers import Registry
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.reconnecting import pause_s


def test_it_offers_tcp_through_its_entry_point() -> None:
    (entry,) = entry_points(group="fluvial", name="transport_tcp")
    plugin: ModuleType = entry.load()
    registry = Registry()
    registry.offering("transport_tcp", "fluvial-transport-tcp")
    plugin.fluvial_register(registry)
    offer = registry.get("transport", "tcp")
    assert offer is not None
    assert offer.options is Options


def test_every_option_says_what_it_is() -> None:
    schema = msgspec.json.schema(Options)["$defs"]["Options"]
    assert schema["additionalProperties"] is False
    for name, option in schema["properties"].items():
        assert option.get("description"), name
        assert "default" in option, name


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"listen": ["127.0.0.1:7771"]}, "is no address like /ip4"),
        ({"listen": ["/dns4/peer.example.org/tcp/7771"]}, "cannot listen on /dns4"),
        ({"announce": ["/dns4/peer.example.org/tcp/0"]}, "name the port"),
        ({"listen": ["/ip4/127.0.0.1/tcp/0"] * 17}, "at most 16"),
        ({"frame_bytes_max": 1000}, "65536"),
        ({"frame_bytes_max": 33_554_432}, "at least twice"),
        ({"keepalive_s": 60}, "longer than keepalive_s"),
        ({"reconnect_max_s": 0.1}, "not be shorter"),
        ({"idle_s": 0}, "idle_s"),
        ({"idle": 1}, "unknown field `idle`"),
    ],
)
def test_options_that_cannot_work_are_refused_with_the_reason(options: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(options, Options)


def test_pauses_grow_up_to_the_longest_and_are_spread() -> None:
    rng = random.Random(3)
    for failures, full in enumerate([0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]):
        pauses = [pause_s(failures, shortest_s=0.5, longest_s=60, rng=rng) for _ in range(100)]
        assert all(full / 2 <= pause <= full for pause in pauses)
        assert max(pauses) - min(pauses) > full / 4
    assert pause_s(10_000, shortest_s=0.5, longest_s=60, rng=rng) <= 60


def test_pauses_are_the_same_for_the_same_seed() -> None:
    one, other = random.Random(1), random.Random(1)
    assert [pause_s(n, shortest_s=1, longest_s=9, rng=one) for n in range(9)] == [
        pause_s(n, shortest_s=1, longest_s=9, rng=other) for n in range(9)
    ]
