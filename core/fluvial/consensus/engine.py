"""The first door: a consensus engine, a pure machine. Events and the time go in, an ordered list of effects comes out.

An engine lives for one epoch: while the set of validators stays the same. When a block changes the set, the host makes a new engine, whose anchor is
that block.

What an engine promises:

- It is a deterministic function of (setup, options, records, events): no clock, no randomness, no I/O, no threads, and *no iteration over a set or of
  anything else whose order depends on hashes*. The laboratory runs it under two hash seeds and compares.
- A signature is made only for what is persisted in the same batch, before it is sent.
- It never raises on input; it drops what is malformed. It keeps a bounded amount per sender and slot.
- ``copy.deepcopy`` works, so that model checkers can fork it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from fluvial.consensus.effects import Effect
from fluvial.consensus.events import Event
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import Sign, ValidatorSet, Verify


class EngineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine knows of its world.

    Attributes:
        me: the peer that it works for; it may be no validator, and follows then.
        sign: signs with that peer's key.
        verify: checks signatures.
        chain: id of the ledger, 32 bytes.
        epoch: which epoch.
        validators: of this epoch.
        anchor: the last final block that the host knows.
        delta_ms: how long a message takes at most, as far as the operator knows; for timeouts only.
        idle_ms: for how long a host may hold its answer to ``BuildPayload`` back while no transaction waits.
    """

    me: PeerId
    sign: Sign
    verify: Verify
    chain: bytes
    epoch: int
    validators: ValidatorSet
    anchor: Anchor
    delta_ms: int
    idle_ms: int = 0


class ConsensusEngine(Protocol):
    """A consensus algorithm. ``now`` is in milliseconds of a monotonic clock that starts at 0 with the process: for timers only."""

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin, or go on after a restart with what was persisted in this epoch, in order."""
        ...

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        ...

    def inspect(self) -> Mapping[str, Any]:
        """What dashboards and tests look at, as JSON values; no logic reads it."""
        ...


MakeEngine: TypeAlias = Callable[[EngineSetup, Any], ConsensusEngine]
"""``(setup, options) -> engine``."""


ReadPayloads: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""``message -> payloads``: those that a message of an engine carries; none if it is no message."""


class MessageDescription(msgspec.Struct, frozen=True):
    """What an engine says of one of its messages, for the laboratory.

    Attributes:
        kind: the engine's word, such as ``notarize``.
        epoch, slot: what it is about.
        signer: index of the validator that signed it; None if nobody did.
        value: id of the block or vertex; empty if there is none.
    """

    kind: str
    epoch: int
    slot: int
    signer: int | None
    value: bytes = b""


class EngineTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an engine without making one.

    Attributes:
        fault_model: ``byzantine`` or ``crash``.
        certifies_state: it votes on blocks with the root of the state after them (``Commit``); else it orders payloads (``Order``) and the host
            gathers a checkpoint of each block.
        version: of the algorithm as implemented.
        describe: describes a message; None if it is none of the engine's.
        reseal: the same message under another validator's index, whatever that makes of its signature.
        payloads: the payloads in a message that nobody has checked, of which hosts verify the signatures before they are ordered; None if those who receive a message
            check it, as transactions that they know.
        rebels: the engine's own bad variants by the laboratory's word for them: ``make`` functions.
    """

    fault_model: str = "byzantine"
    certifies_state: bool = True
    version: str = "1"
    describe: Callable[[bytes], MessageDescription | None] | None = None
    reseal: Callable[[bytes, int], bytes | None] | None = None
    payloads: ReadPayloads | None = None
    rebels: Mapping[str, MakeEngine] = msgspec.field(default_factory=dict)
