"""A ledger for trying out: folders of validators on one machine, each with settings and a key, and the genesis that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluvial.errors import ConfigError
from fluvial.hosting.genesis_file import GenesisDocument, GenesisParameters, GenesisValidator, genesis_text
from fluvial.identity import KeyPair, PeerId

UNITS: Final = 1_000_000_000
"""What the administrator begins with."""
_SETTINGS: Final = """\
# Validator {number} of {count} of the ledger {name}, made by `fluvial testnet init`.
network = "{name}"

[transport]
listen = ["{address}"]

[routing]
kind = "static"
peers = [
{peers}
]

[consensus]
kind = "{algorithm}"

[ledger]
genesis = "../genesis.json"
delta_ms = {delta_ms}
idle_ms = {idle_ms}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestnetPlan:
    """What a testnet is made of.

    Attributes:
        name: of the network and of the ledger.
        validators: how many.
        algorithm: the engine in the seat of consensus.
        host: where all listen.
        first_port: of the first; the others take the next ones.
        delta_ms, idle_ms: as in ``[ledger]``.
        time_ms: when the ledger begins, milliseconds since 1970.
    """

    __test__ = False  # no class of tests

    name: str
    validators: int
    algorithm: str
    host: str = "127.0.0.1"
    first_port: int = 7771
    delta_ms: int = 500
    idle_ms: int = 1_000
    time_ms: int


@dataclass(frozen=True, slots=True)
class MadeTestnet:
    """What was written: the validators' folders with their peer ids, the genesis, and the administrator's key."""

    __test__ = False

    folders: Sequence[tuple[Path, PeerId]]
    genesis: Path
    administrator: Path


def make_testnet(folder: Path, plan: TestnetPlan) -> MadeTestnet:
    """Write a testnet into a folder.

    Raises:
        ConfigError: something is there already, or cannot be written. Nothing is ever overwritten.
    """
    keys = [KeyPair.generate() for _ in range(plan.validators)]
    administrator = KeyPair.generate()
    document = GenesisDocument(
        name=plan.name,
        time_ms=plan.time_ms,
        validators=tuple(GenesisValidator(str(one.peer_id)) for one in keys),
        balances={str(administrator.peer_id): UNITS},
        parameters=GenesisParameters(
            administrators=(str(administrator.peer_id),), validators_min=min(4, plan.validators)
        ),
    )
    addresses = [f"/ip4/{plan.host}/tcp/{plan.first_port + number}" for number in range(plan.validators)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "genesis.json").open("xb") as file:
            file.write(genesis_text(document))
        administrator.save(folder / "administrator.key")
        folders = []
        for number, one in enumerate(keys):
            home = folder / f"validator-{number + 1}"
            (home / "secrets").mkdir(mode=0o700, parents=True)
            one.save(home / "secrets" / "peer.key")
            (home / "fluvial.toml").write_text(_settings(plan, number, keys, addresses), encoding="utf-8")
            folders.append((home, one.peer_id))
    except FileExistsError as error:
        raise ConfigError(f"{error.filename}: this is there already", hint="choose another --dir") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: this cannot be written: {error.strerror}") from error
    return MadeTestnet(folders, folder / "genesis.json", folder / "administrator.key")


def _settings(plan: TestnetPlan, number: int, keys: Sequence[KeyPair], addresses: Sequence[str]) -> str:
    others = [
        f'  "{address}/p2p/{one.peer_id}",'
        for other, (address, one) in enumerate(zip(addresses, keys, strict=True))
        if other != number
    ]
    return _SETTINGS.format(
        number=number + 1,
        count=plan.validators,
        name=plan.name,
        address=addresses[number],
        peers="\n".join(others),
        algorithm=plan.algorithm,
        delta_ms=plan.delta_ms,
        idle_ms=plan.idle_ms,
    )
