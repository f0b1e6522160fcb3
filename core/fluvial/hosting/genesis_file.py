"""The file that a ledger begins with: JSON that people can read, with peer ids in place of keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fluvial.errors import ConfigError
from fluvial.identity import PeerId
from fluvial.ledger.genesis import ADMINISTRATORS_MAX, Amount, Genesis, Parameters
from fluvial.ledger.statements import Validator

GENESIS_BYTES_MAX: Final = 16 << 20


class GenesisValidator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A validator of the first epoch, and how many votes it has."""

    peer: str
    power: Annotated[int, Meta(ge=1)] = 1


class GenesisParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As :class:`fluvial.ledger.genesis.Parameters`, with the administrators' peer ids."""

    administrators: Annotated[tuple[str, ...], Meta(max_length=ADMINISTRATORS_MAX)] = ()
    threshold: Annotated[int, Meta(ge=1)] = 1
    fee_per_byte: Amount = 0
    validators_min: Annotated[int, Meta(ge=1)] = 4
    remove_offenders: bool = True
    power_change_max: tuple[int, int] = (1, 3)
    evidence_epochs_max: Annotated[int, Meta(ge=1)] = 100


class GenesisDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds.

    Attributes:
        name: of the ledger, for people.
        time_ms: milliseconds since 1970; the first block is later.
        validators: of the first epoch.
        balances: units by peer id.
        parameters: the first ones.
    """

    name: str
    time_ms: Annotated[int, Meta(ge=0, le=2**53)]
    validators: Annotated[tuple[GenesisValidator, ...], Meta(min_length=1)]
    balances: dict[str, Amount] = {}
    parameters: GenesisParameters = GenesisParameters()

    def genesis(self) -> Genesis:
        """The genesis that it stands for.

        Raises:
            ValueError: a peer id is none, or these can be no first validators.
        """
        given = self.parameters
        parameters = Parameters(
            administrators=tuple(PeerId.parse(one).public_key for one in given.administrators),
            threshold=given.threshold,
            fee_per_byte=given.fee_per_byte,
            validators_min=given.validators_min,
            remove_offenders=given.remove_offenders,
            power_change_max=given.power_change_max,
            evidence_epochs_max=given.evidence_epochs_max,
        )
        genesis = Genesis(
            name=self.name,
            time_ms=self.time_ms,
            validators=tuple(Validator(str(PeerId.parse(one.peer)), one.power) for one in self.validators),
            balances=tuple((PeerId.parse(peer).public_key, units) for peer, units in sorted(self.balances.items())),
            parameters=parameters,
        )
        genesis.state()
        return genesis


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file.

    Raises:
        ConfigError: the file cannot be read, or holds no genesis; says what is wrong.
    """
    try:
        data = path.read_bytes()
        if len(data) > GENESIS_BYTES_MAX:
            raise ValueError(f"it has {len(data):,} bytes, {GENESIS_BYTES_MAX:,} are allowed")
        return msgspec.json.decode(data, type=GenesisDocument).genesis()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path}: the ledger cannot begin with this file: {error}",
            hint="`genesis` in [ledger] names it; take it from another peer of the ledger, or make a ledger with `fluvial testnet init`",
        ) from error


def genesis_text(document: GenesisDocument) -> bytes:
    """The file of a document."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
