"""For the commands: statements signed with a key file, files of statements, and the way to the running peer."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluvial.commands import Invocation, Reach, read_credentials, run
from fluvial.errors import ConfigError, RemoteProtocolError
from fluvial.identity import KeyPair, PeerId

from fluvial_trust_graph.gossip.exchange import PUSH, decode_outcomes, encode_push
from fluvial_trust_graph.statements import (
    DEPTH_MAX,
    RevocationStatement,
    Statement,
    TrustStatement,
    decode_statement,
    encode_statement,
    sign_revocation,
    sign_trust,
)

REFUSED: Final = frozenset(("expired", "future", "forged", "full", "busy"))
"""Outcomes with which a statement was not taken."""
PUSH_S: Final = 10.0
DAY_S: Final = 86_400
FILE_BYTES_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Signer:
    """Who makes statements, and for which network."""

    keys: KeyPair
    network: str

    @classmethod
    def of(cls, invocation: Invocation, *, network: str | None, key_file: Path | None) -> Signer:
        """The peer of a key file, or else that of the settings; raises ConfigError."""
        if key_file is not None and network is not None:
            return cls(KeyPair.load(key_file), network)
        document = invocation.document(required=key_file is None)
        if key_file is not None and not document.values:
            return cls(KeyPair.load(key_file), "fluvial")
        settings = invocation.configuration().settings
        return cls(KeyPair.load(key_file or settings.key_file), network or settings.network)

    def trust(
        self, subject: PeerId, *, days: int, scopes: Sequence[str] = (), depth: int = DEPTH_MAX
    ) -> TrustStatement:
        """A trust that is valid from now on; raises ConfigError for a scope that is none."""
        seconds, sequence = _moment()
        try:
            trust = TrustStatement(
                network=self.network,
                issuer=self.keys.peer_id,
                subject=subject,
                issued_at=seconds,
                sequence=sequence,
                expires_at=seconds + days * DAY_S,
                depth=depth,
                scopes=tuple(sorted(set(scopes))),
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return sign_trust(trust, self.keys)

    def trust_in_itself(self, *, days: int) -> TrustStatement:
        """What a chain of the signer's begins with."""
        return self.trust(self.keys.peer_id, days=days)

    def revocation(self, subject: PeerId) -> RevocationStatement:
        """A revocation."""
        seconds, sequence = _moment()
        revocation = RevocationStatement(
            network=self.network, issuer=self.keys.peer_id, subject=subject, issued_at=seconds, sequence=sequence
        )
        return sign_revocation(revocation, self.keys)


def _moment() -> tuple[int, int]:
    """This second, and as a sequence number the nanoseconds in it: later statements are newer ones."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return seconds, rest


def read(files: Sequence[Path]) -> list[Statement]:
    """The statements in files of credentials; raises ConfigError if one holds anything else."""
    found: list[Statement] = []
    for file in files:
        for credential in read_credentials(file):
            try:
                found.append(decode_statement(credential))
            except RemoteProtocolError as error:
                raise ConfigError(f"{file}: {error.message}") from error
    return found


def write(file: Path, statements: Sequence[Statement]) -> None:
    """Write statements as a file of credentials; raises ConfigError."""
    lines = ["# statements of trust: show them with `fluvial flow run --credentials FILE`"]
    lines += [base64.b64encode(encode_statement(one)).decode() for one in statements]
    try:
        file.write_text("\n".join(lines) + "\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{file}: this cannot be written: {error.strerror}") from error


def push(way: Reach, statements: Sequence[Statement]) -> Sequence[str]:
    """Hand statements to a running peer; returns a word for each.

    Raises:
        Unreachable: the peer does not run. ConfigError: there are too many. RemoteProtocolError: it knows nothing of trust, or answers something else.
    """
    try:
        payload = encode_push(statements)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    async def work() -> bytes:
        async with way.connect() as client:
            return await client.request(PUSH, payload, timeout_s=PUSH_S)

    outcomes = decode_outcomes(run(work))
    if len(outcomes) != len(statements):
        raise RemoteProtocolError(f"the peer tells of {len(outcomes)} statements, and was handed {len(statements)}")
    return outcomes
