"""Flows written in Aqua, to run from Python.

::

    flows = load("chat.aqua")
    async with connect(relay) as client:
        answer = await client.run(flows.send_message, chat_id="c1", message="hi")

Arguments are checked against the function's types before anything runs, results when they arrive: none, one, or a tuple of several. A
parameter that is a function takes a callable, plain or asynchronous, which is called on this client while the flow runs. An error in the
flow that nothing catches is a ``ServiceError`` that names the line of Aqua.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fluvial.effectors import Call
from fluvial.errors import ConfigError, ServiceError
from fluvial.suggestions import did_you_mean

from fluvial_aqua.air import SourceLine
from fluvial_aqua.checking.types import AquaType, ArrowType, ScalarType
from fluvial_aqua.compiler import Compilation, CompiledFunction, CompilerOptions, compile_text
from fluvial_aqua.conversion import AquaValueError, from_json, to_json
from fluvial_aqua.files import compile_file, read_file
from fluvial_aqua.model.lowering import CALLBACK, ERROR_HANDLER, GET_DATA, RELAY, RESPONSE

if TYPE_CHECKING:
    from fluvial.client import Client, ComposedFlow, Ending, PreparedRun

NO_SUCH_VALUE: Final = 404
"""Status of a call for an argument that the function does not have."""


class AquaFlow:
    """An exported function; give it to ``client.run`` with its arguments.

    Args:
        function: the compiled function.
        ends: calls on this client that end a run, ``service.function``, beside the function's own result.
        silent: the same function compiled so that without results it does not answer.
    """

    def __init__(self, function: CompiledFunction, *, silent: CompiledFunction, ends: Sequence[str] = ()) -> None:
        self._function = function
        self._silent = silent
        self._ends = tuple(ends)

    def until(self, *ends: str) -> AquaFlow:
        """The same flow, which also ends with one of these calls on this client; a run then results in the ``Ending``.

        A function without results then ends with these calls alone.
        """
        return AquaFlow(self._silent, silent=self._silent, ends=ends)

    def __repr__(self) -> str:
        """The signature."""
        return f"<{self.signature}>"

    @property
    def signature(self) -> str:
        """The function's type, as Aqua writes it."""
        return self._function.signature

    @property
    def air(self) -> str:
        """The script that it is compiled to."""
        return self._function.air

    def check_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The data arguments as JSON.

        Raises:
            AquaValueError: an argument is missing, unknown, or not of its type.
        """
        parameters = dict(self._function.arrow.parameters)
        for name in values:
            if name not in parameters:
                hint = did_you_mean(name, parameters) or self.signature
                raise AquaValueError(f"`{self._function.name}` has no argument `{name}`", hint=hint)
        if missing := [name for name in parameters if name not in values]:
            raise AquaValueError(
                f"`{self._function.name}` lacks the argument {', '.join(missing)}", hint=self.signature
            )
        given = {}
        for name, kind in parameters.items():
            if not isinstance(kind, ArrowType):
                given[name] = to_json(values[name], kind, f"argument `{name}`")
            elif not callable(values[name]):
                raise AquaValueError(f"argument `{name}` is a function, {values[name]!r} is not")
        return given

    def parse_arguments(self, texts: Iterable[str]) -> dict[str, Any]:
        """Arguments that are given as texts ``NAME=VALUE``, the value JSON or, for a string, as it is.

        Raises:
            ConfigError: a text has no ``=``.
        """
        parameters = dict(self._function.arrow.parameters)
        values: dict[str, Any] = {}
        for text in texts:
            name, sign, value = text.partition("=")
            if not sign:
                raise ConfigError(f"{text!r} is no argument", hint="write NAME=VALUE")
            values[name] = _parsed(value, parameters.get(name))
        return values

    def prepare(self, values: Mapping[str, Any], *, relay: str) -> PreparedRun:
        """The flow as a script with all that a run of it needs; ``client.run`` asks for it.

        Args:
            values: the arguments by name.
            relay: id of the relay that the client is behind.

        Raises:
            AquaValueError: the arguments do not fit.
        """
        from fluvial.client import PreparedRun
        from fluvial.services import Inline

        given = {RELAY: str(relay), **self.check_arguments(values)}

        def argument(call: Call) -> Any:
            if call.function not in given:
                raise ServiceError(NO_SUCH_VALUE, f"the flow was given no {call.function!r}")
            return given[call.function]

        async def callback(call: Call) -> Any:
            kind = dict(self._function.arrow.parameters).get(call.function)
            if not isinstance(kind, ArrowType):
                raise ServiceError(NO_SUCH_VALUE, f"the flow was given no function {call.function!r}")
            return await _called(values[call.function], kind, call)

        return PreparedRun(
            script=self.air,
            until=(f"{CALLBACK}.{RESPONSE}", f"{ERROR_HANDLER}.error", *self._ends),
            answers={GET_DATA: Inline(argument), CALLBACK: callback},
            finish=self._finish,
        )

    async def run(self, client: Client, *, ttl_s: float = 30.0, **values: Any) -> Any:
        """Run it on a client and give its result.

        Args:
            client: as ``fluvial.client.connect`` gives it.
            ttl_s: how long the flow may take, in seconds.
            values: the arguments.

        Raises:
            AquaValueError: an argument or result does not fit.
            ServiceError: the flow failed. Unreachable: it came to no end in time.
        """
        flow: ComposedFlow = self
        return await client.run(flow, ttl_s=ttl_s, **values)

    def _finish(self, ending: Ending) -> Any:
        if ending.service == ERROR_HANDLER:
            raise self._failure(ending.arguments[0] if ending.arguments else {})
        if ending.service != CALLBACK:
            return ending
        kinds = self._function.arrow.results
        if len(ending.arguments) != len(kinds):
            raise AquaValueError(f"{len(kinds)} results are declared, {len(ending.arguments)} came")
        results = tuple(
            from_json(value, kind, f"result {number}")
            for number, (value, kind) in enumerate(zip(ending.arguments, kinds, strict=True), 1)
        )
        if not results:
            return None
        return results[0] if len(results) == 1 else results

    def _failure(self, error: Any) -> ServiceError:
        told = error if isinstance(error, dict) else {}
        code = told.get("error_code")
        where = self._source_of(str(told.get("instruction", "")))
        at = f" at {where.file}:{where.line} in `{where.function}`" if where is not None else ""
        peer = f" on {told['peer_id']}" if told.get("peer_id") else ""
        message = f"{told.get('message', 'the flow failed')}{at}{peer}"
        return ServiceError(code if isinstance(code, int) and code != 0 else 1, message)

    def _source_of(self, instruction: str) -> SourceLine | None:
        """The Aqua text of an instruction that an error names."""
        line = self._lines.get(instruction)
        return self._function.source_of(line) if line is not None else None

    @cached_property
    def _lines(self) -> dict[str, int]:
        """Lines of the script by the names that errors have for instructions; the first one if there are several."""
        from fluvial.air.syntax import head, parse, tree

        lines: dict[str, int] = {}
        for instruction in tree.walk(parse(self.air).root):
            lines.setdefault(head(instruction), instruction.at.line)
        return lines


class AquaFlows:
    """The functions that a file exports, as attributes or by name.

    Args:
        compilation: of the file; functions without results answer.
        silent: of the file; they do not.
        name: of the file.
    """

    def __init__(self, compilation: Compilation, silent: Compilation, name: str) -> None:
        self._compilation = compilation
        self._silent = silent
        self._name = name
        self._made: dict[str, AquaFlow] = {}

    def __getitem__(self, name: str) -> AquaFlow:
        """A function by its name."""
        if name not in self._compilation.program.exports:
            hint = did_you_mean(name, self) or f"it exports {', '.join(self) or 'nothing'}"
            raise ConfigError(f"{self._name} exports no function `{name}`", hint=hint)
        if name not in self._made:
            function = self._compilation.function(name)
            silent = function if function.arrow.results else self._silent.function(name)
            self._made[name] = AquaFlow(function, silent=silent)
        return self._made[name]

    def __getattr__(self, name: str) -> AquaFlow:
        """A function by its name."""
        try:
            return self[name]
        except ConfigError as error:
            raise AttributeError(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        """The names of the functions."""
        return iter(self._compilation.program.exports)

    def __dir__(self) -> list[str]:
        """The names of the functions, for completion."""
        return list(self)


def load(path: Path | str, *, options: CompilerOptions | None = None) -> AquaFlows:
    """The functions that an Aqua file exports.

    Args:
        path: the file.
        options: how to compile; a function without results answers in any case, so that its end is known.

    Raises:
        AquaError: the program has errors. ConfigError: the file cannot be read.
    """
    return _flows(compile_file(Path(path), options), str(path), options)


def load_text(text: str, *, name: str = "main.aqua", options: CompilerOptions | None = None) -> AquaFlows:
    """The functions that an Aqua program exports whose text is at hand; it may import files.

    Args:
        text: the program.
        name: how errors call it; imports are looked for beside a file of this name.
        options: how to compile, as for :func:`load`.

    Raises:
        AquaError: the program has errors.
    """
    return _flows(compile_text(name, text, read_file, options), name, options)


def _flows(compilation: Compilation, name: str, options: CompilerOptions | None) -> AquaFlows:
    compilation.require()
    surround = msgspec.structs.replace(
        (options or CompilerOptions()).surround, empty_response=True, relay=True, report_errors=True
    )
    silent = msgspec.structs.replace(surround, empty_response=False)
    return AquaFlows(compilation.with_surround(surround), compilation.with_surround(silent), name)


async def _called(function: Callable[..., Any], kind: ArrowType, call: Call) -> Any:
    """Call a function of Python for a flow."""
    arguments: Sequence[Any] = [
        from_json(value, one, f"argument {number} of `{call.function}`")
        for number, (value, (_, one)) in enumerate(zip(call.arguments, kind.parameters, strict=False), 1)
    ]
    result = function(*arguments)
    if inspect.isawaitable(result):
        result = await result
    return to_json(result, kind.results[0], f"the result of `{call.function}`") if kind.results else None


def _parsed(text: str, kind: AquaType | None) -> Any:
    if isinstance(kind, ScalarType) and kind.name == "string":
        return text
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text
