"""A process that is killed while it puts and fetches blobs loses nothing that it had, and leaves nothing half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.identity import PeerId

from tests.core.blobs.contents import pattern, tree_of
from tests.core.blobs.rooms import Network, room

ROOT = Path(__file__).resolve().parents[3]
BIG = pattern(20 * CHUNK_BYTES + 5)


async def put_for_ever(folder: Path) -> None:
    """In the process: tells each blob when it is durable."""
    async with room("a", folder, Network()) as one:
        number = 0
        while True:
            number += 1
            print(await one.blobs.put(pattern(CHUNK_BYTES + number)), flush=True)


async def fetch_slowly(folder: Path) -> None:
    """In the process: tells when half of the blob has been asked for, and goes on."""
    network = Network()
    async with room("a", folder, network) as a, room("b", folder, network) as b:
        blob = await a.blobs.put(BIG)

        async def slow(sender: PeerId, payload: bytes) -> bytes:
            if network.requests[a.peer] > 60:
                print(blob, flush=True)
                await anyio.sleep_forever()
            return await a.room.answer(sender, payload)

        network.liar("a", slow)
        await b.blobs.get(blob, bytes_max=len(BIG), hints=[a.peer])


def killed(work: str, folder: Path, *, after_lines: int) -> list[str]:
    """Run one of the functions above in a process, and kill it when it has told so much; what it told."""
    code = (
        f"import anyio, pathlib; from tests.core.blobs import test_killing; "
        f"anyio.run(test_killing.{work}, pathlib.Path({str(folder)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(after_lines)]
        process.kill()
        lines += [line.strip() for line in process.stdout if line.endswith("\n")]
    return lines


async def test_what_was_put_before_a_kill_is_there_and_pinned(tmp_path: Path) -> None:
    told = await anyio.to_thread.run_sync(lambda: killed("put_for_ever", tmp_path, after_lines=3))
    async with room("a", tmp_path, Network()) as one:
        for number, blob in enumerate(told, start=1):
            content = pattern(CHUNK_BYTES + number)
            path = await one.blobs.get(tree_of(content).blob, bytes_max=len(content))
            assert (path.name, path.read_bytes()) == (blob, content)
        assert not [name for name in one.files() if name.endswith((".tmp", ".part"))]
        assert len([name for name in one.files() if name.endswith(".pin.test")]) >= len(told)


async def test_a_download_goes_on_after_a_kill(tmp_path: Path) -> None:
    network = Network()
    await anyio.to_thread.run_sync(lambda: killed("fetch_slowly", tmp_path, after_lines=1))
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        path = await b.blobs.get(tree_of(BIG).blob, bytes_max=len(BIG), hints=[a.peer])
        assert path.read_bytes() == BIG
        assert network.requests[a.peer] <= 121 - 48  # at least eight chunks were there
