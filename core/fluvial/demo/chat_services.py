"""The chat of the demo, as effectors in a one-file plugin: copy it to start your own.

The relay knows which backend a chat has (``app``), every member takes messages (``chat``), and branches of a flow may meet at the peer of the history
(``protocol``). The other two services of the chat, ``members`` and ``history``, are WebAssembly: their sources lie beside this file.
"""

from __future__ import annotations

import msgspec

from fluvial import hookimpl
from fluvial.effectors import Effector, EffectorError, NoConfig, function
from fluvial.offers import Registry


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
    registry.effector("chat", Chat)
    registry.effector("protocol", Protocol)
