"""The processes of the demo: peers that run until they are stopped, and commands that run to their end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from fluvial.errors import FluvialError

STOP_S: Final = 5.0
LINE_BYTES_MAX: Final = 1_048_576

Heard = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Called with a peer's name and one of its log events."""


async def run_command(folder: Path, *words: str | Path) -> None:
    """Run a command of ``fluvial`` in a folder to its end. Raises FluvialError: it failed; with what it said."""
    command = [sys.executable, "-m", "fluvial", *map(str, words)]
    done = await anyio.run_process(command, cwd=folder, check=False, start_new_session=True)
    if done.returncode:
        raise FluvialError(f"`fluvial {words[0]} {words[1]}` failed: {done.stderr.decode(errors='replace').strip()}")


async def run_peer(name: str, config: Path, heard: Heard, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Run ``fluvial run`` as a process of its own until cancelled; ``started()`` when the peer logs that it has started.

    The process has a session of its own: Ctrl-C in a terminal is for the demo, which then stops its peers.

    Raises:
        FluvialError: the process ended by itself.
    """
    command = [sys.executable, "-m", "fluvial", "run", "--config", str(config)]
    async with await anyio.open_process(
        command, stdin=None, stdout=None, cwd=config.parent, start_new_session=True
    ) as process:
        started = False
        try:
            async for event in events(process):
                await heard(name, event)
                if event.get("event") == "peer_started" and not started:
                    started = True
                    task_status.started()
            raise FluvialError(f"{name} ended by itself", hint=f"try `fluvial run --config {config}`")
        finally:
            await stop(process)


async def events(process: Process) -> Any:
    """The log events that a process writes to stderr; other lines as ``{"event": "output", "text": …}``."""
    assert process.stderr is not None
    stream = BufferedByteReceiveStream(process.stderr)
    while True:
        try:
            line = await stream.receive_until(b"\n", LINE_BYTES_MAX)
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            return
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            event = {"event": "output", "text": line.decode(errors="replace")}
        yield event if isinstance(event, dict) else {"event": "output", "text": str(event)}


async def stop(process: Process) -> None:
    """End a process that we started: with SIGTERM, then with SIGKILL."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with anyio.move_on_after(STOP_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
