"""Plays a case: compiles a program, runs one function of it on a simulated network with mocked services, and says what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from fluvial.air.data.content import Json
from fluvial.errors import ConfigError

from fluvial_aqua.compiler import CompiledFunction, CompilerOptions, compile_text
from fluvial_aqua.constants import parse_constants
from fluvial_aqua.model.lowering import CALLBACK, ERROR_HANDLER, GET_DATA, RELAY, RESPONSE, Surround

PLUMBING: Final = frozenset((GET_DATA, CALLBACK, ERROR_HANDLER))
"""Services that the compiler itself calls."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A program, how it is called, and the network that it runs on; ``@name`` stands for a peer's id.

    Attributes:
        name: a short slug.
        aqua: the text of ``main.aqua``.
        func: the exported function to run.
        about: what it shows.
        tags: what it is about.
        modules: other files beside the main one.
        args: data arguments.
        callbacks: rows that answer calls of arrow arguments.
        relay: the peer that is ``-relay-``; None to compile without one.
        constants: texts ``NAME = literal``.
        empty_response: whether a function without results answers.
        init_peer: the peer that runs the function.
        peers: all peers.
        services: rows that answer calls of services.
        absent_peers: peers that are away.
        order: the order of deliveries.
    """

    name: str
    aqua: str
    func: str
    init_peer: str
    peers: list[str]
    about: str = ""
    tags: list[str] = []
    modules: dict[str, str] = {}
    args: dict[str, Json] = {}
    callbacks: dict[str, dict[str, Json]] = {}
    relay: str | None = None
    constants: list[str] = []
    empty_response: bool = False
    services: list[dict[str, Json]] = []
    absent_peers: list[str] = []
    order: Json = "fifo"

    @classmethod
    def load(cls, path: Path) -> Case:
        """The case in a JSON file.

        Raises:
            ConfigError: the file cannot be read or is no case.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: this is no case: {error}") from error


def compile_case(case: Case) -> CompiledFunction:
    """Compile the function of a case.

    Raises:
        AquaError: the program has errors.
    """
    surround = Surround(relay=case.relay is not None, empty_response=case.empty_response)
    options = CompilerOptions(surround=surround, constants=parse_constants(case.constants))
    return compile_text("main.aqua", case.aqua, case.modules.get, options).function(case.func)


def scenario_of(case: Case, function: CompiledFunction) -> dict[str, Any]:
    """The AIR scenario that plays a case."""
    client = case.init_peer

    def own(service: str, name: str, row: dict[str, Json]) -> dict[str, Json]:
        return {"peer": client, "service": service, "function": name, **row}

    rows = [own(GET_DATA, RELAY, {"returns": f"@{case.relay}"})] if case.relay is not None else []
    rows += [own(GET_DATA, name, {"returns": value}) for name, value in case.args.items()]
    rows += [own(CALLBACK, name, row) for name, row in case.callbacks.items()]
    rows += [own(CALLBACK, RESPONSE, {"returns": ""}), own(ERROR_HANDLER, "error", {"returns": ""})]
    return {
        "name": case.name,
        "script": function.air,
        "init_peer": client,
        "peers": case.peers,
        "services": [*rows, *case.services],
        "absent_peers": case.absent_peers,
        "order": case.order,
    }


def play(case: Case) -> dict[str, Any]:
    """What is seen when a case is played: signature, result, error, calls, callbacks, lost, deliveries.

    Raises:
        AquaError: the program has errors.
        ConfigError: the network of the case makes no sense.
    """
    from fluvial.simulation.network import simulate
    from fluvial.simulation.scenario import Scenario

    function = compile_case(case)
    try:
        scenario = msgspec.convert(scenario_of(case, function), Scenario)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{case.name}: {error}") from error
    seen = simulate(scenario)
    results: list[Sequence[Json]] = []
    errors: list[Json] = []
    calls, callbacks = [], []
    for call in seen.calls:
        if call.service not in PLUMBING:
            calls.append({"peer": call.peer, "service": call.service, "function": call.function, "args": call.args})
        elif (call.service, call.function) == (CALLBACK, RESPONSE):
            results.append(call.args)
        elif call.service == CALLBACK:
            callbacks.append({"function": call.function, "args": call.args})
        elif call.service == ERROR_HANDLER:
            errors.append(_error(call.args))
    return {
        "signature": function.signature,
        "result": results[0] if results else None,
        "error": errors[0] if errors else None,
        "calls": calls,
        "callbacks": callbacks,
        "lost": seen.lost,
        "deliveries": seen.deliveries,
    }


def _error(arguments: Sequence[Any]) -> Json:
    told = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
    shown = {"code": told.get("error_code"), "message": told.get("message")}
    return shown | ({"peer": told["peer_id"]} if told.get("peer_id") else {})
