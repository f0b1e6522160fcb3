"""The part that lets licences pay for calls: asks the meter, and makes its answer durable before the call is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskStatus

from fluvial.effectors import U64, Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import StorageError
from fluvial.findings import Finding
from fluvial.hosting.genesis_file import read_genesis
from fluvial.identity import KeyPair, PeerId
from fluvial.licensing.meter import HeldVoucher, LicenceMeter, NotLicensedError
from fluvial.licensing.rows import keep, read_held
from fluvial.ports import Database, Ledger
from fluvial.prepared import Prepared
from fluvial.seats import ALLOWED, Contributions, Decision, Part

LISTED_MAX: Final = 1_000
NOT_STARTED: Final = 101
"""The status of a question that came before the vouchers were read."""
REASON: Final = "licence"
"""The reason of decisions about calls that are not paid for."""


class HeldVoucherView(msgspec.Struct, frozen=True):
    """What this peer holds of a licence: who signed for how much, and what was used of it, in units."""

    licence: str
    licensee: PeerId
    service: str
    amount: U64
    used: U64
    signature: str


class LicenceDesk(Part):
    """Takes vouchers for the services of this peer.

    Args:
        keys: the peer's; it is the provider.
        genesis: file of the ledger.
        ledger: the port.
        database: of this part.
        prices: units for a call, by service; those of the settings.
        served: the services that these can name.
    """

    def __init__(
        self,
        keys: KeyPair,
        genesis: Path,
        ledger: Ledger,
        database: Database,
        *,
        prices: Mapping[str, int],
        served: Callable[[], Collection[str]],
    ) -> None:
        self._me: Final = keys.peer_id
        self._genesis, self._ledger, self._database = genesis, ledger, database
        self._prices, self._served = prices, served
        self._chain = b""  # once started, as the next
        self._meter: LicenceMeter | None = None

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Read what was kept, then wait to be cancelled.

        Raises:
            StorageError: it cannot be read. ConfigError: the genesis cannot.
        """
        self._chain = read_genesis(self._genesis).chain
        held = await self._database.read(Prepared(read_held))
        self._meter = LicenceMeter(self._me.public_key, self._chain, held)
        task_status.started()
        await anyio.sleep_forever()

    def contributions(self) -> Contributions:
        """The service ``licence``, and whether all prices have a service."""
        return Contributions(services=(LicenceService(self),), health=self._health)

    async def charge(self, call: Call, price: int) -> Decision:
        """Whether a licence of the initiator pays for a call; if so, it has paid, and that is durable. A call that is not made for another reason costs nothing."""
        if self._meter is None:
            return Decision(False, REASON, "the licences of this peer have not been read yet")
        try:
            held = self._meter.charge(call, price, self._ledger.view())
        except NotLicensedError as error:
            return Decision(False, REASON, str(error))
        closed = self._meter.taken_closed()
        try:
            await self._database.write(Prepared(keep, held, closed))
        except BaseException as error:
            self._meter.give_back(held.voucher.licence, price, closed)
            if isinstance(error, StorageError):
                return Decision(False, REASON, f"the payment cannot be written down: {error.message}")
            raise
        return ALLOWED

    def held(self) -> Sequence[HeldVoucher] | None:
        """What is held; None before the start."""
        return None if self._meter is None else self._meter.held()

    def _health(self) -> Iterable[Finding]:
        for service in sorted(set(self._prices) - set(self._served())):
            yield Finding(
                level="warn",
                subject="licences",
                text=f"[ledger.prices] names {service}, and this peer has no such service of its own",
                hint="a deployed service states its price in its manifest",
            )


class LicenceService(Effector[NoConfig]):
    """Vouchers of licences, as this peer holds them.

    Args:
        desk: holds them.
    """

    service_id = "licence"

    def __init__(self, desk: LicenceDesk) -> None:
        super().__init__()
        self._desk = desk

    @function(inline=True)
    def held(self) -> list[HeldVoucherView]:
        """The highest voucher of each licence that was used here, the last 1,000; they are worth something to this peer alone, which settles them."""
        found = self._desk.held()
        if found is None:
            raise EffectorError(NOT_STARTED, "the licences of this peer have not been read yet")
        return [
            HeldVoucherView(
                licence=one.voucher.licence.hex(),
                licensee=PeerId.from_public_key(one.licensee),
                service=one.service,
                amount=one.voucher.amount,
                used=one.used,
                signature=one.voucher.signature.hex(),
            )
            for one in found[-LISTED_MAX:]
        ]
