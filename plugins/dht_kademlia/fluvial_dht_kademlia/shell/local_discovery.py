"""Finds peers of the same network on the local network: each announces itself by mDNS as ``_fluvial._tcp.local.``.

What comes is only said by somebody nearby: it is tried like any other told address. Needs the package ``zeroconf``.

Source: RFC 6762 (multicast DNS), RFC 6763 (service discovery).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog
from fluvial.addresses import Address, Contact
from fluvial.errors import ConfigError
from fluvial.identity import PeerId

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf

SERVICE: Final = "_fluvial._tcp.local."
RESOLVE_MS: Final = 3_000
FOUND_MAX: Final = 256
"""Names that are resolved between two looks; further ones are forgotten."""
LOOK_S: Final = 0.5
TEXT_CHARACTERS_MAX: Final = 128


class LocalDiscovery:
    """See the module's docstring.

    Args:
        own: this peer.
        network: its network's name.
        interfaces: addresses of the network interfaces to use; all if there are none.
        addresses: where this peer can be dialled now.
        found: called with each peer that is found, perhaps again and again.
        log: the part's.

    Raises:
        ConfigError: ``zeroconf`` is not installed.
    """

    def __init__(
        self,
        own: PeerId,
        network: str,
        *,
        interfaces: Sequence[str],
        addresses: Callable[[], Sequence[Address]],
        found: Callable[[Contact], None],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        try:
            import zeroconf  # noqa: F401 - costs a tenth of a second, which peers without it do not pay
        except ImportError as error:
            raise ConfigError(
                "`local_discovery` needs the package zeroconf", hint="pip install fluvial-dht-kademlia[local]"
            ) from error
        self._own: Final = own
        self._network = network
        self._interfaces = list(interfaces)
        self._addresses = addresses
        self._found = found
        self._log = log
        self._names: OrderedDict[str, None] = OrderedDict()

    async def run(self) -> None:
        """Announce this peer and look for others until cancelled; without a usable interface it says so once and does nothing."""
        from zeroconf import InterfaceChoice
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        try:
            zeroconf = AsyncZeroconf(interfaces=self._interfaces or InterfaceChoice.All)
        except OSError as error:
            self._log.warning("local_discovery_failed", error=str(error))
            return
        try:
            await self._announce(zeroconf)
            browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._heard])
            try:
                while True:
                    await anyio.sleep(LOOK_S)
                    while self._names:
                        await self._resolve(zeroconf, self._names.popitem(last=False)[0])
            finally:
                with anyio.CancelScope(shield=True):
                    await browser.async_cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(3):
                await zeroconf.async_close()

    async def _announce(self, zeroconf: Any) -> None:
        """One address of this peer that is an IP address; a client announces nothing."""
        from zeroconf import NonUniqueNameException
        from zeroconf.asyncio import AsyncServiceInfo

        direct = [one for one in self._addresses() if one.host_kind in ("ip4", "ip6") and one.relay is None]
        if not direct:
            return
        name = f"{str(self._own)[-24:]}.{SERVICE}"
        info = AsyncServiceInfo(
            SERVICE,
            name,
            addresses=[ip_address(direct[0].host).packed],
            port=direct[0].port,
            properties={"network": self._network, "peer": str(self._own)},
            server=f"{str(self._own)[-24:]}.local.",
        )
        try:
            await zeroconf.async_register_service(info)
        except NonUniqueNameException as error:
            self._log.warning("local_discovery_failed", error=f"the name {name} is taken: {error}")

    def _heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change.name != "Removed" and len(self._names) < FOUND_MAX:
            self._names[name] = None

    async def _resolve(self, zeroconf: Any, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf.zeroconf, RESOLVE_MS):
            return
        contact = self._contact(info.properties, info.parsed_addresses(), info.port)
        if contact is not None:
            self._found(contact)

    def _contact(self, properties: Any, hosts: Sequence[str], port: int | None) -> Contact | None:
        """The peer that a service is; None if it is none of this network."""
        texts = {key: value for key, value in properties.items() if isinstance(value, bytes)}
        if texts.get(b"network") != self._network.encode() or not port:
            return None
        try:
            peer = PeerId.parse(texts.get(b"peer", b"")[:TEXT_CHARACTERS_MAX].decode())
            ways = [
                Address.parse(f"/ip{ip_address(host).version}/{host}/tcp/{port}")
                for host in hosts[:4]
                if "%" not in host
            ]
        except ValueError:
            return None
        if peer == self._own or not ways:
            return None
        return Contact(peer, tuple(way.with_peer(peer) for way in ways))
