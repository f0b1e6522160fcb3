"""Who is who in the demo, and the settings of each peer: all default plugins in their seats, and one address to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fluvial.addresses import Address
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.perimeters import PerimeterMember, perimeter_id

NETWORK: Final = "demo"
INITIATOR: Final = "alice"
MEMBERS: Final = ("bob", "carol")
SERVERS: Final = ("relay", "members", "history", *MEMBERS)
SEED: Final = "relay"
"""The one peer whose address the others are given; they find each other through the DHT."""
VALIDATORS: Final = ("relay", "members", "history", "bob")
"""They decide about the ledger; the others follow."""
HOSTS: Final = ("members", "history")
"""Peers with a service in WebAssembly, of the same name; its source lies in the folder of that name."""
CHAT_ID: Final = "room-1"
PERIMETER: Final = "chat"
NAME: Final = "chat"
"""On the ledger, of the peer that knows the chat."""
CONFIG: Final = "fluvial.toml"
DELTA_MS: Final = 200
IDLE_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Member:
    """One peer of the demo.

    Attributes:
        name: how people call it.
        folder: where its settings, key and store are.
        peer_id: who it is.
        operator: who deploys for it.
        address: where it listens; None for the initiator, a client.
    """

    name: str
    folder: Path
    peer_id: PeerId
    operator: PeerId
    address: Address | None

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / CONFIG


def chat_perimeter(developer: KeyPair) -> str:
    """The id that the perimeter of the chat will have on the ledger: it is the developer's first transaction."""
    return perimeter_id(developer.public_key, 0).hex()


def chat_members(members: Mapping[str, Member]) -> tuple[PerimeterMember, ...]:
    """The services of the chat, each on its peer."""
    placed = {"app": ("relay",), "members": ("members",), "history": ("history",), "chat": MEMBERS}
    return tuple(
        PerimeterMember(service, str(members[name].peer_id)) for service, names in placed.items() for name in names
    )


def settings_of(member: Member, members: Mapping[str, Member], folder: Path, developer: KeyPair) -> dict[str, Any]:
    """What stands in the ``fluvial.toml`` of a peer.

    Args:
        member: the peer.
        members: all peers, by name.
        folder: the demo's.
        developer: of the chat.
    """
    seed = str(members[SEED].address)
    if member.address is None:
        return {"network": NETWORK, "relays": [seed], "telemetry": {"log_format": "json", "log_level": "debug"}}
    decides = member.name in VALIDATORS
    settings: dict[str, Any] = {
        "network": NETWORK,
        "plugins": {"path": str(folder / "plugins.d")},
        "transport": {"kind": "tcp", "listen": [_listen(member.address)]},
        "routing": {"kind": "kademlia", "peers": [] if member.name == SEED else [seed]},
        "authorization": _authorization(member, developer),
        "execution": {"kind": "wasm"},
        "consensus": {"kind": "simplex" if decides else "none"},
        "ledger": {
            "genesis": str(folder / "genesis.json"),
            "follow": not decides,
            "delta_ms": DELTA_MS,
            "idle_ms": IDLE_MS,
        },
        "effectors": _effectors(member, members),
        "telemetry": {"log_format": "json", "log_level": "debug"},
    }
    if member.name in HOSTS:
        settings["extras"] = {"kv": {}}
        grant = {"effector": "kv", "owners": [str(member.peer_id)], "settings": {"bytes_max": 1_048_576}}
        settings["execution"]["grants"] = [grant]
    return settings


def _authorization(member: Member, developer: KeyPair) -> dict[str, Any]:
    """The chat as a perimeter: flows of its members run here, and ``chat`` takes messages from them or from its services alone.

    The ledger says who serves the chat; who holds the developer's certificate may use it. Beside them the flows of the developer run, and those of the
    peer's own operator, who alone deploys, and says who is in the chat.
    """
    author = str(developer.peer_id)
    return {
        "kind": "trust_graph",
        "owners": [str(member.operator)],
        "admit": [{"perimeter": PERIMETER}, {"peers": [author]}],
        "services": {
            "chat": {"*": [{"perimeter": PERIMETER, "inputs": PERIMETER}]},
            "members": {"add": [{"peers": [str(member.operator)]}]},
        },
        "perimeters": {PERIMETER: {"ledger": chat_perimeter(developer), "keys": {author: 1}}},
    }


def _effectors(member: Member, members: Mapping[str, Member]) -> dict[str, Any]:
    if member.name in MEMBERS:
        return {"chat": {"nickname": member.name}}
    backend = {name: {"peer": str(members[name].peer_id), "service": name} for name in HOSTS}
    of: dict[str, dict[str, Any]] = {"relay": {"app": {"chats": {CHAT_ID: backend}}}, "history": {"protocol": {}}}
    return of.get(member.name, {})


def _listen(address: Address) -> str:
    return str(Address(host_kind=address.host_kind, host=address.host, port=address.port))
