"""The limits of a service, and their defaults: the only place where they stand."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

MIB: Final = 1_048_576
MODULE_BYTES_MAX: Final = 32 * MIB
"""The largest component that is taken. Python's have 18 MiB."""
DETERMINISTIC: Final = "deterministic"
PLAIN: Final = "plain"
"""The profiles of code: with fuel, which makes results the same everywhere, and without."""


class GuestLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one service may take; each service has its own."""

    call_s: Annotated[float, Meta(gt=0, le=3_600, description="seconds for a call, and for making an instance")] = 10.0
    memory_bytes: Annotated[
        int, Meta(ge=65_536, le=2**34, description="bytes of memory, all modules of the service together")
    ] = 128 * MIB
    table_elements: Annotated[int, Meta(ge=1, le=10_000_000, description="elements of each table")] = 100_000
    result_bytes: Annotated[int, Meta(ge=1, le=2**27, description="bytes of a result")] = 4 * MIB
    disk_bytes: Annotated[int, Meta(ge=0, le=2**40, description="bytes of the state directory")] = 64 * MIB
    fuel: Annotated[
        int, Meta(ge=0, le=2**62, description="fuel of a call, about one unit for an instruction; 0: uncounted")
    ] = 0

    @property
    def counts_fuel(self) -> bool:
        """Whether calls have a price."""
        return self.fuel > 0
