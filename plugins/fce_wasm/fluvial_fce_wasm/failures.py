"""How making or calling a service of WebAssembly modules can fail: a closed list of kinds, each with the status that scripts see."""

from __future__ import annotations

from enum import Enum
from typing import Final

from fluvial.errors import ServiceError


class FailureKind(Enum):
    """Why it failed. The value is the word that stands before the text of the error."""

    TIMEOUT = "timeout"
    ARGUMENT = "argument"
    TRAP = "trap"
    MEMORY = "memory"
    STACK = "stack"
    RESULT = "result"
    QUOTA = "quota"
    FUEL = "fuel"
    LINK = "link"
    COMPONENT = "component"


MEANINGS: Final[dict[FailureKind, str]] = {
    FailureKind.TIMEOUT: "the call took longer than its limit, or than the particle lives",
    FailureKind.ARGUMENT: "the arguments do not fit the function's types; the guest was not entered",
    FailureKind.TRAP: "the guest stopped itself, or did what WebAssembly forbids",
    FailureKind.MEMORY: "the limit of memory or tables refused or stopped it",
    FailureKind.STACK: "the guest's stack is exhausted",
    FailureKind.RESULT: "the guest's result is no legal value of its type, or larger than a result may be",
    FailureKind.QUOTA: "the service has used up its state directory's quota",
    FailureKind.FUEL: "the call needed more fuel than it is given",
    FailureKind.LINK: "an import is missing or not granted, has other types, or the modules form a cycle",
    FailureKind.COMPONENT: "the file is no component that can be loaded",
}
"""The meaning of each kind, for people."""

STATUSES: Final[dict[FailureKind, int]] = {
    FailureKind.TIMEOUT: 3,
    FailureKind.ARGUMENT: 4,
    FailureKind.TRAP: 101,
    FailureKind.MEMORY: 102,
    FailureKind.STACK: 103,
    FailureKind.RESULT: 104,
    FailureKind.QUOTA: 105,
    FailureKind.FUEL: 106,
    FailureKind.LINK: 107,
    FailureKind.COMPONENT: 108,
}
"""The status that scripts see, by kind; the first two are those that every service has (``fluvial.services.Status``)."""


class UnknownFunction(LookupError):
    """A service has no function of this name."""


class GuestError(ServiceError):
    """A service could not be made, or a call of it failed.

    Args:
        kind: why.
        reason: what happened and where, in one line.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(STATUSES[kind], f"{kind.value}: {reason}")
        self.kind = kind
        self.reason = reason
