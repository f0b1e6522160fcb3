"""The program of a child process: ``python -m fluvial_fce_wasm.process.child compile|guest``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

from fluvial_fce_wasm.process.confine import confine, limit_use, own_streams

COMPILER_ADDRESS_BYTES: Final = 4 * 2**30
COMPILER_CPU_S: Final = 120
COMPILER_NICENESS: Final = 10
OWN_MEMORY_BYTES: Final = 256 * 2**20
"""What the process needs beside its guest."""
SPARE_BYTES: Final = 65_536
"""So that a file which grows too large is seen to be too large."""
STACK_BYTES: Final = 64 * 2**20
"""Of the thread that compiles, whatever a component has it do; guests have stacks of their own."""


class _Pipe:
    def __init__(self, receiving: int, sending: int) -> None:
        self._receiving = receiving
        self._sending = sending

    def receive(self) -> Any:
        from fluvial_fce_wasm.process.messages import LENGTH, order_of

        (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return order_of(self._exactly(size))

    def send(self, message: Any) -> None:
        from fluvial_fce_wasm.process.messages import frame

        data = memoryview(frame(message))
        while data:
            data = data[os.write(self._sending, data) :]

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._receiving, min(size, 1 << 20))
            if not part:
                os._exit(0)  # the node is gone
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _compile(pipe: _Pipe) -> None:
    """Compile one component after another, and compose some."""
    from fluvial_fce_wasm.guest.compiler import compile_component, compose_components
    from fluvial_fce_wasm.guest.engine import GuestEngine
    from fluvial_fce_wasm.process.messages import ComposeOrder

    engines = {flag: GuestEngine(counts_fuel=flag) for flag in (False, True)}
    while True:
        order = pipe.receive()
        if isinstance(order, ComposeOrder):
            pipe.send(compose_components(order))
        else:
            pipe.send(compile_component(order, engines[order.counts_fuel]))


def _serve(pipe: _Pipe) -> None:
    """Be a service: load it, then answer its calls."""
    from fluvial_fce_wasm.failures import GuestError
    from fluvial_fce_wasm.guest.engine import GuestEngine
    from fluvial_fce_wasm.guest.instance import LinkedInstances, LoadedModule
    from fluvial_fce_wasm.process.messages import HostAnswer, HostQuestion, OrderDone, OrderFailed
    from fluvial_fce_wasm.shapes import function_of

    def ask(question: HostQuestion) -> HostAnswer:
        pipe.send(question)
        answer: HostAnswer = pipe.receive()
        return answer

    order = pipe.receive()
    engine = GuestEngine(counts_fuel=order.limits.counts_fuel)
    limit_use(
        memory_bytes=OWN_MEMORY_BYTES + order.limits.memory_bytes, file_bytes=order.limits.disk_bytes + SPARE_BYTES
    )
    modules = [
        LoadedModule(one.name, engine.load(Path(one.compiled)), one.shape, one.share_bytes) for one in order.modules
    ]
    state = Path(order.state) if order.state else None
    instances = LinkedInstances(engine, modules, order.plan, order.limits, state=state)
    facade = modules[-1].shape
    try:
        instances.start(order.seconds)
    except GuestError as error:
        pipe.send(OrderFailed(error.kind.value, error.reason, dead=True))
        os._exit(0)
    pipe.send(OrderDone())
    while True:
        call = pipe.receive()
        try:
            function = function_of(facade, call.interface, call.name)
            value = instances.call(call.interface, call.name, function, call.arguments, call.seconds, ask)
            reply: Any = OrderDone(value, instances.fuel_used)
        except GuestError as error:
            reply = OrderFailed(error.kind.value, error.reason, dead=instances.dead, fuel_used=instances.fuel_used)
        pipe.send(reply)
        if instances.dead:
            os._exit(0)


def main() -> None:
    """Read what this process is for, confine it, and work until the node is gone."""
    is_compiler = sys.argv[1] == "compile"
    pipe = _Pipe(*own_streams())
    if is_compiler:
        os.nice(COMPILER_NICENESS)
    confine(
        address_bytes=COMPILER_ADDRESS_BYTES if is_compiler else None, cpu_s=COMPILER_CPU_S if is_compiler else None
    )
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_compile if is_compiler else _serve, args=(pipe,), daemon=True)
    thread.start()
    threading.stack_size(0)
    thread.join()
    os._exit(1)


if __name__ == "__main__":
    main()
