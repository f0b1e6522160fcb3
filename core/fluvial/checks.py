"""What ``fluvial doctor`` works with: findings, and what a plugin's check may look at.

A plugin offers a check with ``registry.check(name, check)``. It is called without a node, whether the peer runs or not, and what
it yields is printed under the plugin's name::

    def check(subject: Subject) -> Iterable[Finding]:
        options = subject.options.get("effectors.weather")
        if options is None:
            return  # not switched on here
        station = subject.base_dir / options.station_file
        if station.exists():
            yield Finding("ok", "weather", f"{station} is there")
        else:
            yield Finding("fail", "weather", f"{station} is missing", hint="ask the station for its file")

A part of a running node gives findings as ``Contributions.health``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from sqlalchemy import Connection

Level: TypeAlias = Literal["ok", "warn", "fail"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A repair that ``fluvial doctor --fix`` carries out: one that cannot make anything worse.

    Attributes:
        text: what it does, such as ``chmod 600 secrets/peer.key``.
        apply: does it; raises OSError or FluvialError if that is not possible.
    """

    text: str
    apply: Callable[[], None] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``fail`` keeps the peer from working, ``warn`` may trouble it.
        subject: what was looked at, in a word: ``config``, ``clock``, a plugin's or service's name.
        text: what was found, in a line.
        hint: what the operator can do about it; empty if there is nothing to do.
        code: the error code that ``fluvial explain`` explains, if there is one.
        fix: a repair, if there is a safe one; it stays on this machine.

    Raises:
        ValueError: the level is none of :data:`LEVELS`.
    """

    level: Level
    subject: str
    text: str
    hint: str = ""
    code: str = ""
    fix: Fix | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"a finding's level is one of {', '.join(LEVELS)}, not {self.level!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a check may look at; it changes nothing.

    Attributes:
        base_dir: the folder of ``fluvial.toml``; relative paths in options start here.
        network: the network's name.
        running: whether the peer runs now.
        options: the checked options of each section in which the settings chose an offer of this plugin, by the section's name:
            ``effectors.weather``, ``routing``. Empty if none was chosen.
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
