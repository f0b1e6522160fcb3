"""Nodes with parts that a test has made: what they noted, and how a call of their services ended."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus
from fluvial.config import from_values, load
from fluvial.effectors import NoConfig
from fluvial.node import Node, running
from fluvial.plugins import Plugins, load_plugins
from fluvial.telemetry import make_logger

from tests.support.nodes import LISTEN, WAIT_S, keys_of, until

CALL = """
(xor (seq (call %init_peer_id% ("load" "arguments") [] given)
          (seq (call %init_peer_id% ("{}" "{}") [{}] x)
               (call %init_peer_id% ("done" "well") [x])))
     (call %init_peer_id% ("done" "badly") [:error:.$.message]))
"""


@dataclass
class World:
    """What the parts of a test noted, and how they are to misbehave."""

    notes: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)
    plugins: Plugins = field(default_factory=load_plugins)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    def offer(self, kind: str, name: str, factory: Callable[..., Any], options: type[Any] = NoConfig) -> None:
        self.plugins.registry.offering(f"{name}-plugin", f"fluvial-{name} 1.0")
        getattr(self.plugins.registry, kind)(name, factory, options=options)

    def noting(self, base: type[Any]) -> type[Any]:
        """The class, whose ``run`` notes when it starts and stops."""
        notes = self.notes

        class Noting(base):  # type: ignore[misc]
            async def run(self, *args: Any, task_status: TaskStatus[None]) -> None:
                notes.append(f"{base.__name__} starts")
                try:
                    await super().run(*args, task_status=task_status)
                finally:
                    notes.append(f"{base.__name__} stops")

        return Noting


@asynccontextmanager
async def node_of(world: World, folder: Path, *, name: str = "me", **sections: Any) -> AsyncIterator[Node]:
    values = {
        "network": "test",
        "transport": {"listen": [LISTEN], "reconnect_min_s": 0.05},
        "storage": {"url": "sqlite://"},
        **sections,
    }
    configuration = load(from_values(values, base_dir=folder), plugins=world.plugins)
    log = make_logger(log_format="json", log_level="debug", file=world.log)
    with anyio.fail_after(WAIT_S):
        async with running(configuration, keys=keys_of(name), log=log) as node:
            yield node


async def call(node: Node, service: str, name: str, *arguments: Any) -> tuple[str, Any]:
    """How a call of the node's own ended."""
    ended: list[tuple[str, Any]] = []

    async def done(made: Any) -> None:
        ended.append((made.function, made.arguments[0]))

    async def load(made: Any) -> Any:
        return list(arguments)

    given = " ".join(f"given.$.[{number}]" for number in range(len(arguments)))
    particle = node.particle(CALL.format(service, name, given), ttl_ms=10_000)
    node.bind(particle, {"done": done, "load": load}, lambda effects, waits: None, lambda notice: None)
    await node.submit(particle)
    await until(lambda: ended)
    node.release(particle)
    return ended[0]
