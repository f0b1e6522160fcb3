"""Every error that fluvial raises on purpose, sorted by who must act.

::

    FluvialError
    ├── ConfigError          the operator: fluvial.toml, environment, command line
    ├── PluginError          the author or installer of a plugin
    ├── ProtocolError
    │   ├── LocalProtocolError    we are about to do wrong (a bug or a limit of ours)
    │   └── RemoteProtocolError   the other peer did wrong: it is cut off, the node goes on
    ├── Unreachable          nobody: a peer is away; try again later
    ├── Refused              the initiator: the particle or call is not acceptable here
    ├── AirSyntaxError       the author of a script (defined in ``fluvial.air.syntax``)
    ├── ServiceError         the author of a script: a call failed; becomes a catchable AIR error
    ├── ResourceLimit        whoever asked for too much
    └── StorageError         the operator: the database, or the files of the blobs

Each class carries a stable ``code`` (``F101`` …) that the documentation explains.
"""

from __future__ import annotations

from typing import ClassVar


class FluvialError(Exception):
    """The root: what was wrong, where, and what to do.

    Args:
        message: what was wrong and where, one line, no trailing period needed.
        hint: what the reader can do about it; empty if there is nothing to say.

    ``str(error)`` is the message with the hint below it: who prints the error need not print the hint.
    """

    code: ClassVar[str] = "F000"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message with its hint, for people."""
        return f"{self.message}\n    {self.hint}" if self.hint else self.message


class ConfigError(FluvialError):
    """A setting is missing, unknown or unusable."""

    code = "F101"


class PluginError(FluvialError):
    """A plugin is missing, broken, or offers what another one offers already."""

    code = "F201"


class ProtocolError(FluvialError):
    """A message does not keep to the protocol; see the two subclasses."""

    code = "F300"


class LocalProtocolError(ProtocolError):
    """We are about to send what the protocol does not allow; nothing was sent."""

    code = "F301"


class RemoteProtocolError(ProtocolError):
    """The other peer sent what the protocol does not allow; its connection is closed."""

    code = "F302"


class Unreachable(FluvialError):
    """A peer has no known address, does not answer, or the connection broke."""

    code = "F311"


class Refused(FluvialError):
    """A particle or a call is not accepted by this peer.

    ``reason`` is one short word of a closed list (``expired``, ``signature`` …) used as a metric label. ``retry_ms`` is after how many milliseconds it
    may be tried again, if that is known; 0 otherwise.
    """

    code = "F401"

    def __init__(self, message: str, *, reason: str, hint: str = "", retry_ms: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retry_ms = retry_ms


class ServiceError(FluvialError):
    """A service call failed in a way that its caller's script may catch with ``xor``.

    Args:
        status: the service's own error number, not 0; AIR shows it as ``ret_code``.
        message: what went wrong; scripts see it JSON-encoded.
        peer: whose service it is, where that is another peer's.
        hint: where it failed.
    """

    code = "F601"

    def __init__(self, status: int, message: str, *, peer: str = "", hint: str = "") -> None:
        if status == 0:
            raise ValueError("a service error's status must not be 0, which means success")
        super().__init__(message, hint=hint)
        self.status = status
        self.peer = peer


class ResourceLimit(FluvialError):
    """Something is larger, deeper or more than a limit of this peer allows."""

    code = "F501"


class StorageError(FluvialError):
    """The database, or a file of the peer's state, cannot be opened, read or written."""

    code = "F701"


class DamagedParticle(FluvialError):
    """What the database has of one particle is not what was stored, or was stored by a version that wrote it differently; the others are not concerned."""

    code = "F702"


def root_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the task groups wrapped: their only error, or the first of ours; the group itself if there are several others."""
    errors: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            errors.append(error)
    ours = [error for error in errors if isinstance(error, FluvialError)]
    return errors[0] if len(errors) == 1 else next(iter(ours), group)
