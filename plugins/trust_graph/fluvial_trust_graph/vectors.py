"""Vector files: questions about made-up statements whose answers are known, and how they are evaluated.

Peers are names; the key of a name has the seed SHA-256(name). All statements are really signed and verified. A *snapshot* file asks about one
moment; a *steps* file lets statements arrive one by one; an *encoding* file asks for the reference's bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import msgspec
from fluvial.errors import ConfigError, ResourceLimit
from fluvial.identity import KeyPair, PeerId

from fluvial_trust_graph.certificates import TrustCertificate, flaw_in, flaw_of
from fluvial_trust_graph.encodings import ForeignItem, described
from fluvial_trust_graph.evaluation import EvaluationLimits, TrustEvaluation, evaluate
from fluvial_trust_graph.explaining import explain
from fluvial_trust_graph.graph import TrustRoot
from fluvial_trust_graph.statements import (
    RevocationStatement,
    Statement,
    TrustStatement,
    is_authentic,
    signed_bytes,
)

NETWORK: Final = "vectors"
_ID: Final = re.compile(r"12D3KooW\w{44}")
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
LIMITS: Final = EvaluationLimits(chains=50_000, listing_steps=2_000_000)
"""Files ask for all chains of graphs that are made to have many."""


class VectorTrust(msgspec.Struct, frozen=True):
    """A trust of a file; ``signed_by`` marks a forgery, and in a certificate the issuer follows from the place."""

    issued_for: str
    issued_at: int
    expires_at: int
    issuer: str | None = None
    signed_by: str | None = None


class VectorRevocation(msgspec.Struct, frozen=True):
    """A revocation of a file."""

    revoked_by: str
    revoked: str
    revoked_at: int
    signed_by: str | None = None


class VectorCertificate(msgspec.Struct, frozen=True):
    """A certificate of a file, as an object."""

    trusts: tuple[VectorTrust, ...]


class VectorStep(msgspec.Struct, frozen=True):
    """One thing that happens at a time, or one question."""

    at: int
    set_root: tuple[str, int | None] | None = None
    remove_root: str | None = None
    trust: VectorTrust | None = None
    cert: tuple[VectorTrust, ...] | VectorCertificate | None = None
    revoke: VectorRevocation | None = None
    expect_weights: dict[str, Any] | None = None
    expect_weights_from: tuple[tuple[Any, ...], ...] | None = None
    expect_chains: dict[str, Any] | None = None


class VectorFile(msgspec.Struct, frozen=True):
    """A file of any of the three kinds."""

    name: str
    now: int = 0
    roots: tuple[tuple[str, int], ...] = ()
    trusts: tuple[VectorTrust, ...] = ()
    revocations: tuple[VectorRevocation, ...] = ()
    expect_weights: dict[str, Any] | None = None
    expect_weights_from: tuple[tuple[Any, ...], ...] = ()
    expect_chains: dict[str, Any] = {}
    steps: tuple[VectorStep, ...] | None = None
    items: tuple[ForeignItem, ...] | None = None


@lru_cache(maxsize=100_000)
def keys_named(name: str) -> KeyPair:
    """The keys of a made-up peer."""
    return KeyPair.from_secret(hashlib.sha256(name.encode()).digest())


def peer_named(name: str) -> PeerId:
    """The id of a made-up peer."""
    return keys_named(name).peer_id


def answer(content: bytes, *, where: str) -> dict[str, Any]:
    """What a file asks for; what it expects is not looked at, except for which peers it asks about.

    Args:
        content: JSON.
        where: the name of the file, for errors.

    Raises:
        ConfigError: the file is none of the three kinds.
        ResourceLimit: it is too large, or asks for too many chains.
    """
    with _reading(content, where):
        file = msgspec.json.decode(content, type=VectorFile)
        if file.steps is not None:
            return {"name": file.name, "steps": _Arrivals().play(file.steps)}
        if file.items is not None:
            return {"name": file.name, **described(file.items, keys_named)}
        return _snapshot(file)


def explained(content: bytes, via: str, peer: str, *, where: str) -> dict[str, Any]:
    """Why a peer of a snapshot file has its weight by the chains that contain another one, with names.

    Args:
        content: JSON.
        via: the name of the other peer; the same one for all chains.
        peer: the name of the peer.
        where: the name of the file, for errors.

    Raises:
        ConfigError: the file is no snapshot, or does not name one of the two.
        ResourceLimit: the file is too large.
    """
    with _reading(content, where):
        file = msgspec.json.decode(content, type=VectorFile)
        names = {peer_named(name): name for name in _names(file)}
        if unknown := {via, peer} - {*names.values()}:
            raise ValueError(f"no statement or root of a snapshot names {', '.join(sorted(unknown))}")
        answer = explain(_evaluated(file), peer_named(via), peer_named(peer))
    steps = [_ID.sub(lambda found: names.get(PeerId(found[0]), found[0]), step) for step in answer.steps]
    return {"peer": peer, "weight": answer.weight, "chain": [names[one] for one in answer.chain], "steps": steps}


@contextmanager
def _reading(content: bytes, where: str) -> Iterator[None]:
    if len(content) > FILE_BYTES_MAX:
        raise ResourceLimit(f"{where}: a file of vectors has at most {FILE_BYTES_MAX:,} bytes")
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(
            f"{where}: these are no vectors of the trust graph: {error}", hint="docs/trust.md shows their form"
        ) from error


def _evaluated(file: VectorFile) -> TrustEvaluation:
    made = [_trust(one) for one in file.trusts] + [_revocation(one) for one in file.revocations]
    return evaluate(
        [one for one in made if is_authentic(one, NETWORK)],
        [TrustRoot(peer=peer_named(peer), exponent=exponent) for peer, exponent in file.roots],
        file.now,
        limits=LIMITS,
    )


def _snapshot(file: VectorFile) -> dict[str, Any]:
    evaluation = _evaluated(file)
    asked = _names(file) if file.expect_weights is None else file.expect_weights
    return {
        "name": file.name,
        "weights": weights_named(evaluation, asked),
        "weights_from": _weights_from(evaluation, file.expect_weights_from),
        "chains": _chains(evaluation, file.expect_chains, _names(file)),
    }


def weights_named(evaluation: TrustEvaluation, names: Iterable[str]) -> dict[str, int]:
    """The weights of made-up peers, by name."""
    return {name: evaluation.weight(peer_named(name)) for name in names}


def _weights_from(evaluation: TrustEvaluation, asked: Iterable[Sequence[Any]]) -> list[list[Any]]:
    pairs = [(str(peer), str(via)) for peer, via, *_ in asked]
    return [[peer, via, evaluation.weight_from(peer_named(peer), peer_named(via))] for peer, via in pairs]


def _chains(evaluation: TrustEvaluation, asked: Iterable[str], names: Iterable[str]) -> dict[str, list[list[str]]]:
    known = {peer_named(name): name for name in names}
    return {
        name: sorted([known[peer] for peer in chain.peers] for chain in evaluation.chains(peer_named(name)))
        for name in asked
    }


def _names(file: VectorFile) -> list[str]:
    names = [peer for peer, _ in file.roots]
    for trust in file.trusts:
        names += [trust.issuer or trust.issued_for, trust.issued_for]
    for revocation in file.revocations:
        names += [revocation.revoked_by, revocation.revoked]
    return list(dict.fromkeys(names))


def _trust(given: VectorTrust, *, issuer: str | None = None) -> TrustStatement:
    by = given.issuer or issuer or given.issued_for
    statement = TrustStatement(
        network=NETWORK,
        issuer=peer_named(by),
        subject=peer_named(given.issued_for),
        issued_at=given.issued_at,
        expires_at=given.expires_at,
    )
    return replace(statement, signature=keys_named(given.signed_by or by).sign(signed_bytes(statement)))


def _revocation(given: VectorRevocation) -> RevocationStatement:
    statement = RevocationStatement(
        network=NETWORK,
        issuer=peer_named(given.revoked_by),
        subject=peer_named(given.revoked),
        issued_at=given.revoked_at,
    )
    return replace(statement, signature=keys_named(given.signed_by or given.revoked_by).sign(signed_bytes(statement)))


def _names_in(step: VectorStep) -> Iterator[str]:
    if step.set_root is not None:
        yield step.set_root[0]
    if step.revoke is not None:
        yield from (step.revoke.revoked_by, step.revoke.revoked)
    trusts = step.cert.trusts if isinstance(step.cert, VectorCertificate) else step.cert or ()
    for trust in (*trusts, *([step.trust] if step.trust is not None else [])):
        yield from (trust.issuer or trust.issued_for, trust.issued_for)


class _Arrivals:
    """Statements that came so far, and the roots as they are set."""

    def __init__(self) -> None:
        self._statements: list[Statement] = []
        self._roots: dict[str, int] = {}
        self._names: set[str] = set()

    def play(self, steps: Sequence[VectorStep]) -> list[dict[str, Any]]:
        """The answer to each step, in order."""
        self._names = {name for step in steps for name in _names_in(step)}
        return [self._step(step) for step in steps]

    def _step(self, step: VectorStep) -> dict[str, Any]:
        if answers := self._answers(step):
            return answers
        flaw: str | None = None
        if step.set_root is not None:
            self._set_root(*step.set_root)
        elif step.remove_root is not None:
            self._set_root(step.remove_root, None)
        elif step.trust is not None:
            flaw = self._take_trust(_trust(step.trust), step.at)
        elif step.revoke is not None:
            flaw = self._take_revocation(_revocation(step.revoke), step.at)
        elif step.cert is not None:
            given = step.cert.trusts if isinstance(step.cert, VectorCertificate) else step.cert
            flaw = self._take_certificate(given, step.at)
        else:
            raise ValueError(
                f"the step at {step.at} is none of set_root, remove_root, trust, cert, revoke, expect_weights"
            )
        return {"accepted": True} if flaw is None else {"rejected": flaw}

    def _answers(self, step: VectorStep) -> dict[str, Any]:
        """What a step asks for; empty if it is no question."""
        asked = (step.expect_weights, step.expect_weights_from, step.expect_chains)
        if asked == (None, None, None):
            return {}
        roots = [TrustRoot(peer=peer_named(name), exponent=exponent) for name, exponent in self._roots.items()]
        evaluation = evaluate(self._statements, roots, step.at, limits=LIMITS)
        answers: dict[str, Any] = {}
        if step.expect_weights is not None:
            answers["weights"] = weights_named(evaluation, step.expect_weights)
        if step.expect_weights_from is not None:
            answers["weights_from"] = _weights_from(evaluation, step.expect_weights_from)
        if step.expect_chains is not None:
            answers["chains"] = _chains(evaluation, step.expect_chains, self._names)
        return answers

    def _set_root(self, name: str, exponent: int | None) -> None:
        if exponent is None:
            self._roots.pop(name, None)
        else:
            self._roots[name] = exponent

    def _take_trust(self, statement: TrustStatement, now: int) -> str | None:
        flaw = flaw_of(statement, network=NETWORK, now=now)
        if flaw is None:
            self._statements.append(statement)
        return flaw

    def _take_revocation(self, statement: RevocationStatement, now: int) -> str | None:
        if statement.issued_at > now:
            return "the revocation is dated in the future"
        if not is_authentic(statement, NETWORK):
            return "the revocation is not signed by its issuer"
        self._statements.append(statement)
        return None

    def _take_certificate(self, given: Sequence[VectorTrust], now: int) -> str | None:
        before: Sequence[str | None] = [None, *(one.issued_for for one in given)]
        trusts = tuple(_trust(one, issuer=issuer) for one, issuer in zip(given, before, strict=False))
        roots = [peer_named(name) for name in self._roots]
        flaw = flaw_in(TrustCertificate(trusts), network=NETWORK, roots=roots, now=now)
        if flaw is None:
            self._statements += trusts
        return flaw
