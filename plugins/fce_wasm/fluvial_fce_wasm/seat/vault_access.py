"""Two ways into the vault of a particle: ``fluvial:service/vault`` for guests, and the service ``vault`` for scripts."""

from __future__ import annotations

from typing import Any, Final

from fluvial.blob_id import BlobId
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.host_interfaces import Guest, HostInterface, HostSession
from fluvial.ports import Context
from fluvial.services import Status
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.seat.permissions import Permissions
from fluvial_fce_wasm.seat.vaults import Vaults

TEXT_BYTES_MAX: Final = 4 * 1_048_576
"""Bytes of text that go in or out at once."""
READ_BYTES_MAX: Final = 1_048_576
"""So many come out as ``list<u8>`` at once: on their way into a guest each takes about a hundred."""
TOO_LARGE: Final = 413

VAULT_WIT: Final = """
package fluvial:service@0.1.0;

/// Files of the particle whose call is being answered. All services that it calls on this peer share them, until it ends.
interface vault {
  /// The names of all files, sorted.
  files: func() -> list<string>;
  size: func(name: string) -> option<u64>;
  /// A whole file, which must be UTF-8.
  read: func(name: string) -> result<string, string>;
  /// Bytes from an offset on: as many as are asked for or as there are, 1 MiB at most.
  read-bytes: func(name: string, offset: u64, length: u32) -> result<list<u8>, string>;
  /// Makes a file or replaces it.
  write: func(name: string, text: string) -> result<_, string>;
  append: func(name: string, text: string) -> result<_, string>;
  append-bytes: func(name: string, bytes: list<u8>) -> result<_, string>;
  remove: func(name: string) -> result<_, string>;
}
"""


class VaultInterface(HostInterface):
    """``fluvial:service/vault``, which every guest may import without a grant.

    Args:
        vaults: of the peer.
    """

    effector = "vault"
    wit = VAULT_WIT

    def __init__(self, vaults: Vaults) -> None:
        self._vaults = vaults

    def session(self, guest: Guest, options: Any) -> HostSession:
        """The vault of the particle that calls. What is written stays, also if the call fails afterwards."""
        vaults, call = self._vaults, guest.call

        async def files() -> list[str]:
            return vaults.files(call)

        async def size(name: str) -> int | None:
            return vaults.size(call, name)

        async def read(name: str) -> str:
            return await _text(vaults, call, name)

        async def read_bytes(name: str, offset: int, length: int) -> bytes:
            return await vaults.read(call, name, min(offset, 2**62), min(length, READ_BYTES_MAX))

        async def write(name: str, text: str) -> None:
            await vaults.write(call, name, _utf8(text))

        async def append(name: str, text: str) -> None:
            await vaults.append(call, name, _utf8(text))

        async def append_bytes(name: str, data: list[int]) -> None:
            await vaults.append(call, name, bytes(data))

        async def remove(name: str) -> None:
            await vaults.remove(call, name)

        return HostSession(
            {
                "files": files,
                "size": size,
                "read": read,
                "read-bytes": read_bytes,
                "write": write,
                "append": append,
                "append-bytes": append_bytes,
                "remove": remove,
            }
        )


class VaultService(Effector[NoConfig]):
    """Files that live as long as the particle, and that all services which it calls here share.

    Args:
        context: of the node.
        vaults: of the peer.
        permissions: who may let this peer fetch.
    """

    service_id = "vault"
    calls_max = 4  # a file that is read may be large, and waits until it is a value

    def __init__(self, context: Context, vaults: Vaults, permissions: Permissions) -> None:
        super().__init__()
        self._context = context
        self._vaults = vaults
        self._permissions = permissions

    @function
    async def put(self, call: Call, text: str, name: str = "") -> str:
        """Write a text to a file, with a new name if none is given; the name."""
        name = name or f"{self._context.rng.getrandbits(64):016x}"
        await self._vaults.write(call, name, _utf8(text))
        return name

    @function
    async def cat(self, call: Call, name: str) -> str:
        """A whole file as text; status 404 if there is none, 413 above 4 MiB."""
        return await _text(self._vaults, call, name)

    @function
    async def fetch(self, call: Call, blob: str, name: str = "") -> str:
        """For deployers: fetch a blob into a file, from the initiator or whoever has it; the name, which is the blob's id if none is given."""
        self._permissions.require_deployer(call)
        try:
            found = BlobId.parse(blob)
        except ValueError as error:
            raise EffectorError(Status.BAD_ARGUMENTS, f"{blob[:80]!r} is no id of a blob") from error
        path = await self._context.blobs.get(found, bytes_max=self._vaults.bytes_max, hints=[call.initiator])
        await self._vaults.write(call, name or blob, await in_thread(path.read_bytes))
        return name or blob

    @function(inline=True)
    def files(self, call: Call) -> list[str]:
        """The names of all files, sorted."""
        return self._vaults.files(call)

    @function
    async def remove(self, call: Call, name: str) -> None:
        """Delete a file; without effect if there is none."""
        await self._vaults.remove(call, name)


async def _text(vaults: Vaults, call: Call, name: str) -> str:
    size = vaults.size(call, name)
    if size is not None and size > TEXT_BYTES_MAX:
        raise EffectorError(TOO_LARGE, f"the file {name!r} has {size:,} bytes; {TEXT_BYTES_MAX:,} are read at once")
    try:
        return (await vaults.read(call, name)).decode()
    except UnicodeDecodeError as error:
        raise EffectorError(Status.FAILED, f"the file {name!r} is no UTF-8") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EffectorError(Status.BAD_ARGUMENTS, "a text with a lone surrogate") from error
