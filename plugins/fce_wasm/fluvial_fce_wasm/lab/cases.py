"""Files of cases: which modules make up a service, with which limits, and which calls are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from fluvial.errors import ConfigError

from fluvial_fce_wasm.limits import MIB, GuestLimits


class CaseConfig(msgspec.Struct, frozen=True):
    """The limits of a case's service; memory is the sum over all modules, in mebibytes."""

    call_seconds: float = 10.0
    memory_mib: float = 128
    wasi: bool = False
    state_dir: bool = False
    disk_mib: float = 64

    @property
    def limits(self) -> GuestLimits:
        """As a service has them."""
        return GuestLimits(
            call_s=self.call_seconds, memory_bytes=int(self.memory_mib * MIB), disk_bytes=int(self.disk_mib * MIB)
        )


class CaseCall(msgspec.Struct, frozen=True):
    """A function and its arguments."""

    f: str
    args: list[Any] = []


class EngineCase(msgspec.Struct, frozen=True):
    """One case; keys that say what is expected are not looked at."""

    name: str
    modules: list[str]
    config: CaseConfig = CaseConfig()
    calls: list[CaseCall] = []


def read_cases(path: Path) -> Sequence[EngineCase]:
    """The cases of a file: an array, or an object whose ``cases`` is one.

    Raises:
        ConfigError: it cannot be read, or is no file of cases.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
        cases = content["cases"] if isinstance(content, dict) else content
        return msgspec.convert(cases, list[EngineCase])
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"{path}: there is no key 'cases'") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: this is no file of cases: {error}") from error
