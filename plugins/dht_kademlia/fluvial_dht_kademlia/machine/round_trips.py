"""How long an answer usually takes, so that a lookup loses patience early on quick networks and late on slow ones."""

from __future__ import annotations

from typing import Final

import msgspec

PATIENCE_MIN_MS: Final = 50


class RoundTripEstimator(msgspec.Struct):
    """Smoothed round-trip time and its deviation, in milliseconds.

    Source: RFC 6298, section 2 (its constants and its formula).
    """

    patience_max_ms: int
    _smoothed: float | None = None
    _deviation: float = 0.0

    def measured(self, round_trip_ms: int) -> None:
        """An answer took so long."""
        if self._smoothed is None:
            self._smoothed, self._deviation = float(round_trip_ms), round_trip_ms / 2
            return
        self._deviation += (abs(self._smoothed - round_trip_ms) - self._deviation) / 4
        self._smoothed += (round_trip_ms - self._smoothed) / 8

    @property
    def patience_ms(self) -> int:
        """After this a lookup asks somebody else as well."""
        if self._smoothed is None:
            return self.patience_max_ms
        return int(min(self.patience_max_ms, max(PATIENCE_MIN_MS, self._smoothed + 4 * self._deviation)))
