"""What the commands ask of a peer's services ``dist`` and ``srv``, held against the shapes that the answers should have (``seat/builtin.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from fluvial.commands import shaped

from fluvial_fce_wasm.remote import ask

if TYPE_CHECKING:
    from fluvial.client import Client


class ModuleAnswer(TypedDict):
    """A module that the peer has."""

    id: str
    size: int
    name: str


class InterfaceAnswer(TypedDict):
    """An interface that the peer has for modules to import."""

    interface: str
    effector: str


class BlueprintAnswer(TypedDict):
    """A blueprint that the peer has; each dependency is a link ``{"/": ID}``."""

    id: str
    dependencies: list[dict[str, Any]]


class ServiceAnswer(TypedDict):
    """A service of the peer."""

    id: str
    name: str
    owner: str
    aliases: list[str]
    running: bool
    isolation: str | None


class FunctionAnswer(TypedDict):
    """A function of a service."""

    text: str


class FunctionsAnswer(TypedDict):
    """The interface of a service."""

    functions: list[FunctionAnswer]


async def modules(client: Client) -> list[ModuleAnswer]:
    """The modules of the relay. Raises RemoteProtocolError: the answer is no such list. Others as ``ask``; so do all of these."""
    return shaped(await ask(client, "dist", "list_modules"), list[ModuleAnswer], what="list of modules")


async def interfaces(client: Client) -> list[InterfaceAnswer]:
    """The interfaces of the relay."""
    return shaped(await ask(client, "dist", "list_interfaces"), list[InterfaceAnswer], what="list of interfaces")


async def blueprints(client: Client) -> list[BlueprintAnswer]:
    """The blueprints of the relay."""
    return shaped(await ask(client, "dist", "list_blueprints"), list[BlueprintAnswer], what="list of blueprints")


async def services(client: Client) -> list[ServiceAnswer]:
    """The services of the relay."""
    return shaped(await ask(client, "srv", "list"), list[ServiceAnswer], what="list of services")


async def service(client: Client, name: str) -> tuple[ServiceAnswer, FunctionsAnswer]:
    """A service of the relay, and its functions."""
    about = shaped(await ask(client, "srv", "info", name), ServiceAnswer, what="description of a service")
    return about, shaped(
        await ask(client, "srv", "get_interface", name), FunctionsAnswer, what="interface of a service"
    )
