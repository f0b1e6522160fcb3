"""Compiles modules in a limited child process, and keeps what was compiled under a seal.

Compiled code is native code: whoever can change it can do what the node can do. So it lies in a folder that only this user can open, and is
loaded only if its HMAC matches, under a key that lies in the same folder and never leaves it. Nothing that others send is ever loaded as compiled.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import anyio
import msgspec
from fluvial.identity import PeerId
from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.compile_turns import CompilerPlace, CompileTurns
from fluvial_fce_wasm.composing import Composer, composition
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.limits import DETERMINISTIC, MODULE_BYTES_MAX, PLAIN
from fluvial_fce_wasm.linking import LinkPlan
from fluvial_fce_wasm.process.messages import CompileOrder, ComposeOrder, OrderFailed, Reply
from fluvial_fce_wasm.wit.types import ModuleShape

COMPILE_S: Final = 90.0
"""How long one module may take. The largest of the known toolchains takes 4 s on a quiet machine, 20 s on a busy one."""
CACHE_BYTES_MAX: Final = 2 * 2**30
KEY_BYTES: Final = 32
NOBODY: Final = PeerId("")
"""For whom commands and laboratories compile."""
WASMTIME: Final = version("wasmtime")


class Seal(msgspec.Struct, frozen=True):
    """What lies beside compiled code: its HMAC with that of its shape, and the shape."""

    mac: bytes
    shape: ModuleShape


class CompiledModule(msgspec.Struct, frozen=True):
    """Where compiled code lies, and what the module imports and exports."""

    path: Path
    shape: ModuleShape


class CodeCache:
    """The folder of compiled code.

    Args:
        folder: made if it is not there, for this user alone.
        compile_s: how long the compilation of a module may take.
        bytes_max: of the folder; what was used longest ago goes first.
    """

    def __init__(self, folder: Path, *, compile_s: float = COMPILE_S, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._folder = folder.absolute()
        self._compile_s = compile_s
        self._bytes_max = bytes_max
        self._turns = CompileTurns()
        self._key = b""
        self._opening = threading.Lock()

    async def compiled(
        self,
        modules: Sequence[tuple[str, Path]],
        *,
        counts_fuel: bool,
        is_text: bool = False,
        owner: PeerId = NOBODY,
    ) -> list[CompiledModule]:
        """Compiled code of modules, from the folder or made now.

        Args:
            modules: the name for errors and the file of each.
            counts_fuel: as for the engine.
            is_text: whether the files may be WAT, for tests and laboratories.
            owner: for whom they are compiled: those who want that at the same time take turns.

        Raises:
            GuestError: of the kind ``component``: one is no component, or too large, or takes too long.
        """
        await in_thread(self._open)
        digests = [await in_thread(partial(_digest, path)) for _, path in modules]
        known = [await in_thread(partial(self._load, one, counts_fuel)) for one in digests]
        found = [one for one in known if one is not None]
        if len(found) == len(known):
            return found
        made = []
        for (name, path), digest in zip(modules, digests, strict=True):
            async with self._turns.turn(owner) as place:
                there = await in_thread(partial(self._load, digest, counts_fuel))  # somebody may have made it meanwhile
                made.append(there or await self._make(name, path, digest, counts_fuel, is_text, place))
        await in_thread(partial(self._shrink, {one.path for one in made}))
        return made

    async def composed(
        self,
        modules: Sequence[tuple[str, Path]],
        plan: LinkPlan,
        composer: Composer,
        *,
        is_text: bool = False,
        owner: PeerId = NOBODY,
    ) -> CompiledModule:
        """Compiled code of one component that is composed of modules, as a plan says; from the folder or made now.

        Args:
            modules: as for :meth:`compiled`.
            plan: how they are linked.
            composer: the tool.
            is_text: as for :meth:`compiled`.
            owner: as for :meth:`compiled`.

        Raises:
            GuestError: of the kind ``component``: the tool cannot do it.
        """
        await in_thread(self._open)
        parts = [await in_thread(partial(_digest, path)) for _, path in modules]
        about = [composer.version, parts, plan]
        digest = hashlib.sha256(msgspec.msgpack.encode(about)).hexdigest()
        async with self._turns.turn(owner) as place:
            if (there := await in_thread(partial(self._load, digest, counts_fuel=False))) is not None:
                return there
            scratch = self._folder / f"{secrets.token_hex(8)}.new"
            await in_thread(scratch.mkdir)
            try:
                files = await in_thread(partial(_binaries, [path for _, path in modules], scratch, is_text))
                config, target = scratch / "config", scratch / "composed"
                await in_thread(partial(config.write_bytes, composition(plan, files)))
                order = ComposeOrder(str(composer.path), str(config), str(files[-1]), str(target))
                reply = await place.ask(order, timeout_s=self._compile_s)
                if isinstance(reply, OrderFailed):
                    raise GuestError(FailureKind.COMPONENT, f"it cannot be composed: {reply.reason}")
                return await self._make(
                    "composed", target, digest, False, False, place, bytes_max=len(files) * MODULE_BYTES_MAX
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await in_thread(partial(shutil.rmtree, scratch, ignore_errors=True))

    async def _make(
        self,
        name: str,
        path: Path,
        digest: str,
        counts_fuel: bool,
        is_text: bool,
        place: CompilerPlace,
        *,
        bytes_max: int = MODULE_BYTES_MAX,
    ) -> CompiledModule:
        source, size = await in_thread(lambda: (path.absolute(), path.stat().st_size))
        if size > bytes_max:
            raise GuestError(FailureKind.COMPONENT, f"module {name!r} has {size:,} bytes; {bytes_max:,} are taken")
        target = self._folder / f"{secrets.token_hex(8)}.new"
        order = CompileOrder(str(source), str(target), counts_fuel, is_text)
        try:
            reply = await self._reply(order, place)
            if isinstance(reply, OrderFailed):
                raise GuestError(FailureKind.COMPONENT, reply.reason)
        except GuestError as error:
            target.unlink(missing_ok=True)
            raise GuestError(FailureKind.COMPONENT, f"module {name!r}: {error.reason}") from None
        shape: ModuleShape = reply.shape  # type: ignore[union-attr]  # compilers answer with nothing else
        return await in_thread(lambda: self._keep(digest, counts_fuel, target, shape))

    async def _reply(self, order: CompileOrder, place: CompilerPlace) -> Reply:
        if is_virtual():  # there are no processes in simulated time; simulations compile what is theirs
            from fluvial_fce_wasm.guest.compiler import compile_component
            from fluvial_fce_wasm.guest.engine import GuestEngine

            return compile_component(order, GuestEngine(counts_fuel=order.counts_fuel))
        return await place.ask(order, timeout_s=self._compile_s)

    # --- files, in a thread -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        with self._opening:  # several threads may come at the same time
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)
            self._key = self._key or _read_key(self._folder / "key")

    def _path(self, digest: str, counts_fuel: bool) -> Path:
        profile = DETERMINISTIC if counts_fuel else PLAIN
        return self._folder / f"{digest}-{WASMTIME}-{profile}.cwasm"

    def _load(self, digest: str, counts_fuel: bool) -> CompiledModule | None:
        path = self._path(digest, counts_fuel)
        try:
            seal = msgspec.msgpack.decode(path.with_suffix(".seal").read_bytes(), type=Seal)
            mac = self._mac(path, seal.shape)
        except (OSError, msgspec.MsgspecError):
            return None
        if not hmac.compare_digest(mac, seal.mac):
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return CompiledModule(path, seal.shape)

    def _keep(self, digest: str, counts_fuel: bool, made: Path, shape: ModuleShape) -> CompiledModule:
        path = self._path(digest, counts_fuel)
        made.replace(path)
        seal = path.with_suffix(".seal")
        new = seal.with_suffix(".new")
        new.write_bytes(msgspec.msgpack.encode(Seal(self._mac(path, shape), shape)))
        new.replace(seal)
        return CompiledModule(path, shape)

    def _mac(self, path: Path, shape: ModuleShape) -> bytes:
        mac = hmac.new(self._key, path.name.encode() + b"\0" + msgspec.msgpack.encode(shape), hashlib.sha256)
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                mac.update(part)
        return mac.digest()

    def _shrink(self, keep: set[Path]) -> None:
        files = sorted(self._folder.glob("*.cwasm"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > self._bytes_max and path not in keep:
                path.unlink(missing_ok=True)
                path.with_suffix(".seal").unlink(missing_ok=True)


def _binaries(files: Sequence[Path], scratch: Path, is_text: bool) -> list[Path]:
    """The files as binaries: texts are assembled."""
    found = []
    for place, path in enumerate(files):
        data = path.read_bytes() if is_text else b""
        if is_text and not data.startswith(b"\0asm"):
            path = scratch / f"part{place}"
            from wasmtime import wat2wasm

            path.write_bytes(wat2wasm(data))
        found.append(path)
    return found


def _read_key(path: Path) -> bytes:
    """The key in a file; made if there is none, or something else."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) == KEY_BYTES:
        return key
    path.unlink()
    return _read_key(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
