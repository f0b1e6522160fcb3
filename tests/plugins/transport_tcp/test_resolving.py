"""Names whose servers do not answer: whoever waits is told so, and what was asked for holds up nobody."""

from __future__ import annotations

import socket
from threading import Event
from typing import Any

import pytest
from fluvial.addresses import Address
from fluvial_transport_tcp import resolving
from fluvial_transport_tcp.resolving import Resolver

NAME = "/dns4/relay.example.org/tcp/7771"


async def test_a_name_server_that_does_not_answer_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver waits in its thread, for as long as it likes."""
    answered = Event()

    def hang(*_: object) -> Any:
        answered.wait(30)
        return []

    monkeypatch.setattr(resolving, "LOOK_UP_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(OSError, match=r"the name relay\.example\.org was not resolved within 0\.05 s"):
            await Resolver().hosts(Address.parse(NAME))
    finally:
        answered.set()


async def test_a_numeric_address_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert await Resolver().hosts(Address.parse("/ip4/192.0.2.1/tcp/7771")) == ("192.0.2.1",)
