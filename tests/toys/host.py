"""A public type that two plugins share without knowing each other: functions of a node for what is uploaded to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostFunctions:
    """Functions by the name under which an uploaded module may call them."""

    name: str
    functions: Mapping[str, Callable[..., Any]]
