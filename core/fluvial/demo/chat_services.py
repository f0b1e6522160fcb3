"""The chat of the demo, as effectors in a one-file plugin: copy it to start your own.

Three peers' owners provide it: the relay knows which backend a chat has (``app``), the members service who is in it
(``members``), and every member takes messages (``chat``). The history service counts them (``history``), and is where branches of a flow may
meet (``protocol``).
"""

from __future__ import annotations

import msgspec

from fluvial import hookimpl
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.identity import PeerId
from fluvial.seats import Registry


class Place(msgspec.Struct, frozen=True):
    """A peer and a service on it."""

    peer: str
    service: str


class ChatBackend(msgspec.Struct, frozen=True):
    """Who serves a chat."""

    members: Place
    history: Place


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[effectors.app]``: the chats by id."""

    chats: dict[str, ChatBackend]


class App(Effector[AppConfig]):
    """Finds the backend of a chat."""

    service_id = "app"

    @function
    async def resolve_backend(self, chat_id: str) -> ChatBackend:
        """Where the chat's members and history are; status 404 if there is no such chat."""
        if (backend := self.config.chats.get(chat_id)) is None:
            raise EffectorError(404, f"there is no chat {chat_id!r}")
        return backend


class MembersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[effectors.members]``: the peers in the chat."""

    peers: list[str]


class Members(Effector[MembersConfig]):
    """Knows who is in the chat."""

    service_id = "members"

    @function
    async def is_member(self, call: Call, peer: PeerId | None = None) -> bool:
        """Whether a peer is in the chat: the particle's initiator if none is given."""
        return (peer or call.initiator) in self.config.peers

    @function
    async def list(self) -> list[str]:
        """All members."""
        return self.config.peers


class ChatConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[effectors.chat]``: who answers."""

    nickname: str


class Chat(Effector[ChatConfig]):
    """Takes messages for a member."""

    service_id = "chat"

    @function
    async def message(self, text: str) -> str:
        """Take a message; the answer says who got it."""
        return f"{self.config.nickname} got it"


class History(Effector[NoConfig]):
    """Counts the messages of a chat."""

    service_id = "history"

    def __init__(self, config: NoConfig) -> None:
        super().__init__(config)
        self._count = 0

    @function
    async def message_sent(self, text: str) -> int:
        """A message was sent; says how many there are now."""
        self._count += 1
        return self._count


class Protocol(Effector[NoConfig]):
    """A place where a flow may pass."""

    service_id = "protocol"

    @function
    async def noop(self) -> None:
        """Do nothing."""


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the effectors; the config of a peer switches on those that it provides."""
    registry.effector("app", App)
    registry.effector("members", Members)
    registry.effector("chat", Chat)
    registry.effector("history", History)
    registry.effector("protocol", Protocol)
