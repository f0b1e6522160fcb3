"""One call of a function on some peer, as a flow that catches its error: the script, and what the end of the flow means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fluvial.air.machine.errors import service_failure
from fluvial.errors import ServiceError
from fluvial.services import Status
from fluvial.strangers import printable

_RESULT: Final = "result"
_ERROR: Final = "error"


@dataclass(frozen=True, slots=True)
class SingleCall:
    """See the module's docstring.

    Attributes:
        peer: the id of the peer that is called.
        service, function: on that peer; neither may contain a quote.
        arguments: JSON values.
    """

    peer: str
    service: str
    function: str
    arguments: tuple[Any, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The values that the script reads."""
        return {f"argument_{number}": value for number, value in enumerate(self.arguments)}

    @property
    def script(self) -> str:
        """AIR text; it ends with a call of service ``return`` on its initiator, whatever becomes of the call."""
        return (
            f'(xor (seq (call "{self.peer}" ("{self.service}" "{self.function}") [{" ".join(self.values)}] result)'
            f' (call %init_peer_id% ("return" "{_RESULT}") [result]))'
            f' (call %init_peer_id% ("return" "{_ERROR}") [:error:]))'
        )

    def result(self, function: str, arguments: Sequence[Any]) -> Any:
        """The result of the call.

        Args:
            function: of the call with which the flow ended.
            arguments: of that call.

        Raises:
            ServiceError: the call failed; with the status and the words of the service.
        """
        (answer,) = arguments
        if function == _RESULT:
            return answer
        text = str(answer["message"])
        status, message = service_failure(text) or (int(answer["error_code"]), text)
        status = status or Status.FAILED  # a peer may have signed a failure without a status
        raise ServiceError(status, printable(message), peer=self.peer, hint=f"on {self.peer}, with status {status}")
