"""The node's side of a child process: it is started, asked, and killed when an answer is late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Literal

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.process.messages import (
    FRAME_BYTES_MAX,
    LENGTH,
    HostAnswer,
    HostQuestion,
    Order,
    Reply,
    frame,
    reply_of,
)

ChildKind = Literal["compile", "guest"]

KILL_S: Final = 2.0
"""How long the end of a killed process is waited for."""


async def no_host(interface: str, function: str, arguments: list[Any]) -> HostAnswer:
    """For children that have no guest."""
    return HostAnswer(trap="there is no host here")


class ChildProcess:
    """A child process. It takes one order at a time.

    Args:
        process: runs ``fluvial_fce_wasm.process.child``.
    """

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._received = BufferedByteReceiveStream(process.stdout)

    @classmethod
    async def spawn(cls, kind: ChildKind) -> ChildProcess:
        """Start one. It has nothing of our environment but where to import from, no files but its pipes, and a session of its own."""
        process = await anyio.open_process(
            [sys.executable, "-P", "-s", "-m", "fluvial_fce_wasm.process.child", kind],
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def ask(
        self,
        order: Order,
        *,
        timeout_s: float,
        host: Callable[[str, str, list[Any]], Awaitable[HostAnswer]] = no_host,
        late: FailureKind = FailureKind.TIMEOUT,
    ) -> Reply:
        """The reply to an order.

        Args:
            order: what to do.
            timeout_s: after which the process is killed.
            host: answers what the guest asks of the host meanwhile.
            late: of which kind the failure is then.

        Raises:
            GuestError: it was late, or the process has ended. The process is gone then. Whoever is cancelled while waiting has it killed, too.
        """
        data = _framed(order)
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    reply = await self._exchange(data)
                    if not isinstance(reply, HostQuestion):
                        return reply
                    data = _answer(await host(reply.interface, reply.function, reply.arguments))
        except TimeoutError:
            await self.kill()
            raise GuestError(late, "it took too long, so its process was killed") from None
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await self.kill()
            raise GuestError(FailureKind.TRAP, f"its process ended ({self._process.returncode})") from None
        except msgspec.MsgspecError:
            await self.kill()
            raise GuestError(FailureKind.TRAP, "its process sent what is no message, and was killed") from None
        except BaseException:
            await self.kill()
            raise

    async def _exchange(self, data: bytes) -> Reply:
        assert self._process.stdin is not None
        await self._process.stdin.send(data)
        (size,) = LENGTH.unpack(await self._received.receive_exactly(LENGTH.size))
        if size > FRAME_BYTES_MAX:
            raise msgspec.ValidationError(f"a message of {size:,} bytes")
        return reply_of(await self._received.receive_exactly(size))

    async def kill(self) -> None:
        """End the process now, and wait for its end; without effect if it has ended."""
        if self._process.returncode is None:
            with suppress(
                ProcessLookupError
            ):  # not `kill()`: it would first reap a child that has just ended, which asyncio then misses
                os.kill(self._process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True), anyio.move_on_after(KILL_S):
            await self._process.aclose()


def _framed(order: Order) -> bytes:
    try:
        return frame(order)
    except (OverflowError, TypeError, ValueError) as error:
        raise GuestError(FailureKind.ARGUMENT, f"the arguments cannot be handed over: {error}") from None


def _answer(answer: HostAnswer) -> bytes:
    try:
        return frame(answer)
    except (OverflowError, TypeError, ValueError) as error:
        return frame(HostAnswer(trap=f"its result cannot be handed over: {type(error).__name__}"))
