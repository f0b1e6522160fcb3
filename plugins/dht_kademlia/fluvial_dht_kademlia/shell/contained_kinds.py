"""Kinds of challenges of other plugins, called so that one that fails costs one check: what it cannot judge is not solved."""

from __future__ import annotations

import structlog
from fluvial.challenges import ChallengeKind
from fluvial.errors import RemoteProtocolError
from fluvial.faults import describe
from fluvial.identity import PeerId


class ContainedKind(ChallengeKind):
    """Another plugin's kind.

    Args:
        kind: the kind.
        log: where its failures are said.
    """

    def __init__(self, kind: ChallengeKind, log: structlog.stdlib.BoundLogger) -> None:
        self.name = str(kind.name)
        self._kind = kind
        self._log = log

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """As the kind says; False if it fails."""
        try:
            return self._kind.solves(body, provider, solution) is True
        except RemoteProtocolError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to another plugin's code
            self._log.error("challenge_kind_failed", kind=self.name, error=describe(error))
            return False

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        """As the kind says; None if it fails."""
        try:
            solution = self._kind.solve(body, provider)
            if not (solution is None or isinstance(solution, bytes)):
                raise TypeError(f"a solution is bytes, not {type(solution).__name__}")
        except RemoteProtocolError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to another plugin's code
            self._log.error("challenge_kind_failed", kind=self.name, error=describe(error))
            return None
        return solution
