"""Meters the use of licences: which call is paid for by which voucher. No clock, no disk.

A call that costs units is made if

1. its initiator holds a licence on the ledger, for this provider and the service as the script names it, that has not expired;
2. it has shown a voucher of this licence, with this flow or before, that the deposit covers;
3. what was used so far and this call are together no more than the voucher's amount.

So a voucher pays in advance for the calls of a flow, and nobody risks more than what it covers beyond what was used. A call is paid for once it is
permitted, whether the service then succeeds or not. A voucher that is shown again is worth nothing new.

A licence that was on the ledger and is not there at a later height was closed: what is held of it is worth nothing any more, and is dropped. Some are looked
at with each call. One whose whole deposit cannot pay for a call is not held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fluvial.effectors import Call
from fluvial.ledger.licences import LicenceRecord, LicenceVoucher, licence_of, vouchers_in
from fluvial.ports import View

VOUCHERS_MAX: Final = 4
"""So many vouchers of a call are looked at; each may cost the verification of a signature."""
LICENCES_TRIED_MAX: Final = 8
"""So many licences of one initiator for one service are tried for a call, the newest first."""
LOOKED_AT: Final = 8
"""So many licences are looked for on the ledger with each call: twice as many as a call can bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVoucher:
    """What a provider holds of a licence.

    Attributes:
        voucher: the highest one.
        licensee: public key of who signed it.
        service: what may be used.
        used: units of the calls that were permitted.
        seen: a height of the ledger at which the licence was there; 0 if none is known.
    """

    voucher: LicenceVoucher
    licensee: bytes
    service: str
    used: int
    seen: int = 0


class NotLicensedError(Exception):
    """A call is not paid for; the text says why."""


class LicenceMeter:
    """What is used of the licences of one provider.

    Args:
        provider: its public key.
        chain: id of the ledger.
        held: what was kept of an earlier run.
    """

    def __init__(self, provider: bytes, chain: bytes, held: Iterable[HeldVoucher] = ()) -> None:
        self._provider, self._chain = provider, chain
        self._held: dict[bytes, HeldVoucher] = {}
        self._of: dict[tuple[bytes, str], list[bytes]] = {}
        self._round: list[bytes] = []  # those that are still to be looked at before all others are again
        self._closed: list[bytes] = []
        for one in held:
            self._put(one)

    def held(self) -> Sequence[HeldVoucher]:
        """What it holds, in the order in which licences were first used."""
        return list(self._held.values())

    def charge(self, call: Call, price: int, view: View) -> HeldVoucher:
        """Let a licence pay for a call; returns what is to be made durable before the call is made.

        Args:
            call: with the vouchers that its initiator shows among its credentials.
            price: units.
            view: the ledger.

        Raises:
            NotLicensedError: no licence pays for it.
        """
        self._look(view)
        what = f"a call of {call.service[:80]} costs {price:,} units, and "
        problems = [
            problem for voucher in self._shown(call, view) if (problem := self._take(voucher, call, price, view))
        ]
        known = self._of.get((call.initiator.public_key, call.service), [])
        for name in known[: -LICENCES_TRIED_MAX - 1 : -1]:
            held = self._held[name]
            problem = _ended(licence_of(view, name), name, view.height)
            if not problem and held.used + price > held.voucher.amount:
                problem = (
                    f"vouchers of {held.voucher.amount:,} units were shown for the licence {name.hex()}, of which {held.used:,} are used: "
                    f"sign a voucher of {held.used + price:,} units or more"
                )
            if not problem:
                self._held[name] = replace(held, used=held.used + price, seen=view.height)
                return self._held[name]
            problems.append(problem)
        raise NotLicensedError(
            what
            + (
                problems[0]
                if problems
                else "its initiator has shown no voucher of a licence for this service and this peer; `fluvial consensus licence` makes both"
            )
        )

    def _shown(self, call: Call, view: View) -> Iterator[LicenceVoucher]:
        """The highest voucher of each licence of this provider that a call shows."""
        highest: dict[bytes, LicenceVoucher] = {}
        for voucher in vouchers_in(call.credentials):
            known = highest.get(voucher.licence)
            if known is None or voucher.amount > known.amount:
                highest[voucher.licence] = voucher
        mine = (one for one in highest.values() if not self._is_of_another(licence_of(view, one.licence)))
        yield from (one for one, _ in zip(mine, range(VOUCHERS_MAX), strict=False))

    def _is_of_another(self, record: LicenceRecord | None) -> bool:
        """Whether a licence is for another provider: the flow visits that one, too."""
        return record is not None and record.provider != self._provider

    def _take(self, voucher: LicenceVoucher, call: Call, price: int, view: View) -> str:
        """Hold a voucher if it is good; returns what is wrong with it, or nothing."""
        name = voucher.licence
        held, record = self._held.get(name), licence_of(view, name)
        if problem := _ended(record, name, view.height):
            return problem
        assert record is not None, "it has not ended"
        if record.licensee != call.initiator.public_key:
            return f"the licence {name.hex()} is another peer's, and not that of the flow's initiator"
        if record.service != call.service:
            return f"the licence {name.hex()} is for the service {record.service[:80]}"
        if held is not None and voucher.amount <= held.voucher.amount:
            return ""  # shown before
        if voucher.amount > record.deposit:
            return f"the voucher of {voucher.amount:,} units is more than the {record.deposit:,} that the licence {name.hex()} has locked"
        if not voucher.is_signed(self._chain, record.licensee):
            return f"the signature of the voucher for the licence {name.hex()} is not its licensee's"
        if held is None and record.settled + price > record.deposit:
            return f"the licence {name.hex()} has {record.deposit - record.settled:,} units left"
        used = held.used if held is not None else record.settled
        self._put(
            HeldVoucher(voucher=voucher, licensee=record.licensee, service=record.service, used=used, seen=view.height)
        )
        return ""

    def taken_closed(self) -> Sequence[bytes]:
        """The licences that were dropped since this was asked the last time: they were closed."""
        closed, self._closed = self._closed, []
        return closed

    def give_back(self, licence: bytes, units: int, closed: Sequence[bytes]) -> None:
        """A payment was not made durable: it is not used, unlike what other calls have used meanwhile; the disk follows with the next call.

        Args:
            licence: of which the units were used.
            units: so many.
            closed: what :meth:`taken_closed` has returned for the same write.
        """
        if (held := self._held.get(licence)) is not None:
            self._held[licence] = replace(held, used=held.used - units)
        self._closed.extend(closed)

    def _look(self, view: View) -> None:
        """See whether some licences are still there, in turn."""
        for _ in range(min(LOOKED_AT, len(self._held))):
            if not self._round:
                self._round = list(self._held)
            if (held := self._held.get(self._round.pop())) is None:
                continue
            name = held.voucher.licence
            if licence_of(view, name) is not None:
                self._held[name] = replace(held, seen=view.height)
            elif 0 < held.seen < view.height:  # else this peer's ledger may not have come so far again
                self._drop(held)

    def _drop(self, held: HeldVoucher) -> None:
        name, whose = held.voucher.licence, (held.licensee, held.service)
        del self._held[name]
        self._of[whose].remove(name)
        if not self._of[whose]:
            del self._of[whose]
        self._closed.append(name)

    def _put(self, held: HeldVoucher) -> None:
        name = held.voucher.licence
        if name not in self._held:
            self._of.setdefault((held.licensee, held.service), []).append(name)
        self._held[name] = held


def _ended(record: LicenceRecord | None, name: bytes, height: int) -> str:
    """Why a licence is not good now; empty if it is."""
    if record is None:
        return f"the ledger of this peer knows no licence {name.hex()}: it was closed, or is not in a block yet"
    if height > record.expires:
        return f"the licence {name.hex()} has expired at height {record.expires:,}; the ledger is at {height:,}"
    return ""
