"""How a ledger begins: its parameters, first validators and first balances. The id of the chain is the hash of all of it."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

import msgspec

from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.state import Changes, State
from fluvial.ledger.statements import NOTHING, Validator, ValidatorSet

Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""Never negative, and sums of two fit into 64 bits."""

UNITS_MAX: Final = 2**62
"""Of all balances together. Nothing makes units, so no sum can become larger."""

ADMINISTRATORS_MAX: Final = 65
"""One who sends a transaction, and as many as can approve it."""

VALIDATORS: Final = "validators"
PARAMETERS: Final = "parameters"
ACCOUNTS: Final = "accounts"


class Parameters(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger's administrators can set.

    Attributes:
        administrators: keys that may change validators and parameters.
        threshold: how many of them must agree.
        fee_per_byte: price of a transaction's bytes, in units.
        validators_min: the set never becomes smaller than this.
        remove_offenders: whether who is convicted leaves the set.
        power_change_max: (numerator, denominator): largest part of the power that may come or go in one epoch.
        evidence_epochs_max: for how many epochs an offence is punished.
    """

    administrators: Annotated[tuple[Key, ...], msgspec.Meta(max_length=ADMINISTRATORS_MAX)] = ()
    threshold: Annotated[int, msgspec.Meta(ge=1)] = 1
    fee_per_byte: Amount = 0
    validators_min: Annotated[int, msgspec.Meta(ge=1)] = 4
    remove_offenders: bool = True
    power_change_max: tuple[int, int] = (1, 3)
    evidence_epochs_max: Annotated[int, msgspec.Meta(ge=1)] = 100


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of one ledger.

    Attributes:
        name: of the ledger, for people.
        time_ms: milliseconds since 1970; the first block is later.
        validators: the first set: peer ids and powers.
        balances: (public key, units).
        parameters: the first parameters.
    """

    name: str
    time_ms: Annotated[int, msgspec.Meta(ge=0)]
    validators: tuple[Validator, ...]
    balances: tuple[tuple[Key, Amount], ...] = ()
    parameters: Parameters = Parameters()

    @property
    def chain(self) -> bytes:
        """The ledger's id: everything that is signed for it names it."""
        return sha256(b"fluvial/genesis/1\0" + encode(self)).digest()

    def state(self) -> State:
        """The state before the first block.

        Raises:
            ValueError: these can be no first validators, or a key has two balances, or there are too many units.
        """
        ValidatorSet(self.validators)
        if len(dict(self.balances)) != len(self.balances) or sum(units for _, units in self.balances) > UNITS_MAX:
            raise ValueError(f"each key has one balance, and all of them together at most {UNITS_MAX} units")
        changes = Changes(State())
        changes.set(PARAMETERS, b"", self.parameters)
        changes.set(VALIDATORS, b"", Membership(0, self.validators))
        for validator in self.validators:
            changes.set(VALIDATORS, PeerId(validator.peer).public_key, 0)
        for key, amount in self.balances:
            changes.set(ACCOUNTS, key, Account(0, amount))
        return State().with_changes(changes.written)

    def anchor(self) -> Anchor:
        """Where the first epoch begins."""
        return Anchor(0, 0, NOTHING, self.state().root, self.time_ms)


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """Who validates.

    Attributes:
        epoch: grows by one whenever the set changes.
        validators: the set, in its order.
    """

    epoch: int
    validators: tuple[Validator, ...]


class Account(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to a key.

    Attributes:
        nonce: of its next transaction.
        balance: in units.
    """

    nonce: int = 0
    balance: int = 0
