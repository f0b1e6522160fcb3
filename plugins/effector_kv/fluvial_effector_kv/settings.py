"""Settings of the extra ``kv``, and of the grants of its store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from fluvial.identity import PeerId
from fluvial.tables import Tables
from msgspec import Meta

TABLES: Final = Tables(name="kv", migrations=Path(__file__).parent / "migrations")


class KeyValueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a grant: the limits of one store."""

    bytes_max: Annotated[int, Meta(ge=0, le=2**40, description="bytes of all keys and values")] = 16 * 1_048_576
    entries_max: Annotated[int, Meta(ge=0, le=100_000_000, description="entries")] = 100_000
    key_bytes_max: Annotated[int, Meta(ge=1, le=2_000, description="bytes of a key")] = 512
    value_bytes_max: Annotated[int, Meta(ge=1, le=2**26, description="bytes of a value")] = 1_048_576


class KeyValueOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys of ``[extras.kv]``."""

    scripts_of: Annotated[
        tuple[str, ...], Meta(description="peers whose scripts may call the service kv; each has a store of its own")
    ] = ()
    limits: Annotated[KeyValueSettings, Meta(description="of the store of each such peer")] = KeyValueSettings()

    def __post_init__(self) -> None:
        """Refuse what is no peer id."""
        for text in self.scripts_of:
            PeerId.parse(text)
