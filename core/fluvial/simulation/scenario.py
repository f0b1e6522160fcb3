"""Scenario files: a simulated network in which one AIR particle runs, services being mocked (docs/simulation.md has the format)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fluvial.air.data.content import Json
from fluvial.errors import ConfigError
from fluvial.identity import KeyPair, PeerId

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1

_MENTION: Final = re.compile(r'"@([^"\s]+)"')


class MockedError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mocked failure. ``message`` is what scripts see, as it stands; services usually give a JSON text."""

    code: int
    message: str


class ServiceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of mocked services; the first that matches a call answers it. Absent peer, service or function match any.

    One of: ``returns`` a value, ``echo`` the argument of that number, ``error``, ``returns_each`` one value after the other (the last
    repeats; counted over the whole network).
    """

    peer: str | None = None
    service: str | None = None
    function: str | None = None
    returns: Json | msgspec.UnsetType = msgspec.UNSET
    echo: int | msgspec.UnsetType = msgspec.UNSET
    error: MockedError | msgspec.UnsetType = msgspec.UNSET
    returns_each: list[Json] | msgspec.UnsetType = msgspec.UNSET

    @property
    def problem(self) -> str:
        """Why the row cannot answer a call; empty if it can."""
        if isinstance(self.error, MockedError) and self.error.code == 0:
            return "an error's code must not be 0, which means success"
        if isinstance(self.echo, int) and self.echo < 0:
            return f"echo counts arguments from 0, there is no argument {self.echo}"
        if self.returns_each == []:
            return "returns_each needs at least one value"
        return ""


class Seeded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deliveries in a pseudo-random order."""

    seed: int


class Scenario(msgspec.Struct, frozen=True):
    """One scenario.

    Attributes:
        name: a short slug; the particle is called ``particle-NAME``.
        script: AIR text; ``"@peer"`` in a string literal stands for that peer's id, as it does in JSON values.
        init_peer: name of the peer that begins the particle.
        peers: every peer's name.
        about: what the scenario shows.
        services: rows that answer calls.
        absent_peers: particles sent to them are lost.
        order: which queued delivery is handled next.
    """

    name: str
    script: str
    init_peer: str
    peers: list[str]
    about: str = ""
    services: list[ServiceRow] = []
    absent_peers: list[str] = []
    order: Literal["fifo"] | Seeded | None = "fifo"

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """The scenario in a JSON file.

        Raises:
            ConfigError: the file cannot be read or is no scenario; the message says where.
        """
        try:
            scenario = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: this is no scenario: {error}") from error
        if scenario.init_peer.removeprefix("@") not in {peer.removeprefix("@") for peer in scenario.peers}:
            raise ConfigError(f"{path}: init_peer {scenario.init_peer!r} is not among the peers")
        for number, row in enumerate(scenario.services):
            if problem := row.problem:
                raise ConfigError(f"{path}: services[{number}]: {problem}")
        return scenario


def key_of(name: str) -> KeyPair:
    """The key pair that a scenario's peer has: its secret is SHA-256 of ``fluvial:NAME``."""
    return KeyPair.from_secret(hashlib.sha256(f"fluvial:{name}".encode()).digest())


class PeerNames:
    """Peer names to peer ids and back, wherever they occur."""

    def __init__(self, names: Iterable[str]) -> None:
        self.keys: Final = {name: key_of(name) for name in dict.fromkeys(names)}
        self._ids: Final[dict[str, PeerId]] = {name: key.peer_id for name, key in self.keys.items()}
        self._names: Final[dict[str, str]] = {peer_id: name for name, peer_id in self._ids.items()}
        self._pattern: Final = re.compile("|".join(map(re.escape, self._names)))

    def name(self, peer_id: str) -> str | None:
        """The name of a peer id; None for anything else."""
        return self._names.get(peer_id)

    def script_to_ids(self, script: str) -> str:
        """The script with the ids of known peers in its literals."""
        return _MENTION.sub(lambda found: f'"{self._ids.get(found[1], "@" + found[1])}"', script)

    def to_ids(self, value: Json) -> Json:
        """A JSON value with ids for whole strings ``@name``, and floats for integers that do not fit 64 bits, as no value can have those."""
        if isinstance(value, str):
            return str(self._ids.get(value[1:], value)) if value.startswith("@") else value
        if isinstance(value, list):
            return [self.to_ids(item) for item in value]
        if isinstance(value, dict):
            return {key: self.to_ids(item) for key, item in value.items()}
        if isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
            return float(value)
        return value

    def to_names(self, value: Json) -> Json:
        """A JSON value with ``@name`` for ids, wherever they occur, also in longer strings and keys."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: "@" + self._names[found[0]], value)
        if isinstance(value, list | tuple):
            return [self.to_names(item) for item in value]
        if isinstance(value, dict):
            return {self.to_names(key): self.to_names(item) for key, item in value.items()}
        return value


class MockedServices:
    """Answers calls as the rows of a scenario say."""

    def __init__(self, rows: Sequence[ServiceRow], names: PeerNames) -> None:
        self._rows = rows
        self._names = names
        self._counts = [0] * len(rows)

    def answer(self, peer: str, service: str, function: str, arguments: Sequence[Json]) -> Any | MockedError:
        """The value or error for a call on the peer of this name."""
        for number, row in enumerate(self._rows):
            wanted = (row.peer.removeprefix("@") if row.peer else None, row.service, row.function)
            if all(want in (None, got) for want, got in zip(wanted, (peer, service, function), strict=True)):
                return self._of_row(number, row, arguments)
        return MockedError(1, '"no such service"')

    def _of_row(self, number: int, row: ServiceRow, arguments: Sequence[Json]) -> Any | MockedError:
        if isinstance(row.error, MockedError):
            return row.error
        if isinstance(row.echo, int):
            return arguments[row.echo] if row.echo < len(arguments) else None
        if isinstance(row.returns_each, list):
            index = min(self._counts[number], len(row.returns_each) - 1)
            self._counts[number] += 1
            return self._names.to_ids(row.returns_each[index])
        return None if row.returns is msgspec.UNSET else self._names.to_ids(row.returns)
