"""Reports what happens in the demo while it happens, from the log events of all its peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

TEXT_MAX: Final = 48
"""Characters of a value that are shown."""


@dataclass(slots=True)
class Tally:
    """Totals of one run of the demo.

    Attributes:
        calls, hops, bytes, signatures: calls and hops made, bytes that the hops carried, signatures checked.
        longest_path: most peers that one copy was handed to.
        unreachable: peers that could not be reached, each with the last error.
        refused: peers that did not take the particle, each with the reason.
        first_s, last_s: when the first and the last thing happened, seconds since 1970.
    """

    calls: int = 0
    hops: int = 0
    bytes: int = 0
    signatures: int = 0
    longest_path: int = 0
    unreachable: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    first_s: float = 0.0
    last_s: float = 0.0


class Teller:
    """Prints a line per call and hop of one particle at a time, and counts them.

    Args:
        names: names by peer id.
        say: prints a line.
        paint: colours a text: ``paint(text, colour)``.

    Attributes:
        particle: the one that is told of; empty before it begins.
        tally: its totals.
    """

    def __init__(self, names: dict[str, str], say: Callable[[str], None], paint: Callable[[str, str], str]) -> None:
        self.tally = Tally()
        self.particle = ""
        self._names = names
        self._say = say
        self._paint = paint
        self._awaits = ""
        self._tells_all = False

    def begin(self, initiator: str) -> None:
        """Tell of the next particle that a peer begins, and of no other."""
        self.tally = Tally()
        self.particle, self._awaits = "", initiator

    def tell_all(self) -> None:
        """From now on tell of all particles."""
        self._tells_all = True

    async def hear(self, name: str, event: dict[str, Any]) -> None:
        """Take in a log event of a peer."""
        particle = str(event.get("particle", ""))
        if particle and name == self._awaits:
            self.particle, self._awaits = particle, ""
        if not particle or (particle != self.particle and not self._tells_all):
            return
        match event.get("event"):
            case "call_values":
                self.tally.calls += 1
                self._line(event, name, self._call(event))
            case "particle_accepted":
                self.tally.hops += 1
                self.tally.bytes += int(event["bytes"])
                self.tally.signatures += int(event["signatures"])
                self.tally.longest_path = max(self.tally.longest_path, int(event["hop"]))
                came = f"⇐ {self._name(event['sender'])}   hop {event['hop']}, {event['bytes']} bytes, "
                self._line(event, name, self._paint(f"{came}{event['signatures']} signatures ✓", "bright_black"))
            case "delivery_failed":
                to, error = self._name(event["to"]), named(str(event["error"]), self._names)
                if to not in self.tally.unreachable:
                    self._line(event, name, self._paint(f"✗ cannot reach {to}: {error}; tries again", "yellow"))
                self.tally.unreachable[to] = error
            case "particle_refused":
                reason = named(str(event["error"]), self._names)
                self.tally.refused[name] = reason
                self._line(event, name, self._paint(f"✗ refused: {reason}", "red"))
            case "flow_failed" | "particle_broken" | "storage_failed":
                self._line(event, name, self._paint(f"✗ {event['event']}: {event.get('error', '')}", "red"))

    def _call(self, event: dict[str, Any]) -> str:
        arguments = ", ".join(self._value(value) for value in event["arguments"])
        call = self._paint(f"{event['service']}.{event['function']}", "cyan") + f"({arguments})"
        if event["status"]:
            return f"{call} {self._paint('✗ ' + self._value(event['outcome']), 'red')}"
        return f"{call} → {self._paint(self._value(event['outcome']), 'green')}   {event['seconds'] * 1000:.1f} ms"

    def _line(self, event: dict[str, Any], name: str, text: str) -> None:
        now = datetime.fromisoformat(event["timestamp"]).timestamp()
        self.tally.first_s = self.tally.first_s or now
        self.tally.last_s = now
        self._say(f"{max(0.0, now - self.tally.first_s):7.3f}  {name:<8} {text}")

    def _name(self, peer_id: str) -> str:
        return self._names.get(peer_id, peer_id)

    def _value(self, value: Any) -> str:
        text = named(msgspec.json.encode(value).decode(), self._names)
        return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def named(text: str, names: Mapping[str, str]) -> str:
    """A text with names in place of peer ids."""
    for peer_id, name in names.items():
        text = text.replace(f'"{peer_id}"', f"@{name}").replace(peer_id, f"@{name}")
    return text
