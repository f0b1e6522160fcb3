"""What a plugin's check for ``fluvial doctor`` may look at.

A plugin offers a check with ``registry.check(name, check)``. It is called without a node, whether the peer runs or not, and what
it yields is printed under its name::

    def check(subject: Subject) -> Iterable[Finding]:
        options = subject.options.get("effectors.weather")
        if options is None:
            return  # not switched on here
        station = subject.base_dir / options.station_file
        if station.exists():
            yield Finding(level="ok", text=f"{station} is there")
        else:
            yield Finding(level="fail", text=f"{station} is missing", hint="ask the station for its file")

A part of a running node gives its findings as ``Contributions.health``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fluvial.findings import Finding

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a check may look at; it changes nothing.

    Attributes:
        base_dir: the folder of ``fluvial.toml``; relative paths in options start here.
        network: the network's name.
        running: whether the peer runs now, as far as is known.
        options: the checked options of each section in which the settings chose an offer of this plugin, by the section's name:
            ``effectors.weather``, ``extras.gateway``, ``routing``. Empty if none was chosen.
        database: the peer's database, for reading alone and with everything in one snapshot; None if it is not there yet or cannot be
            read. Only for the time of the check.
    """

    base_dir: Path
    network: str
    running: bool
    options: Mapping[str, Any]
    database: Connection | None


Check: TypeAlias = Callable[[Subject], Iterable[Finding]]
"""Called in a thread of its own, with a deadline. May read files and the database, may ask other machines; must not change anything."""
