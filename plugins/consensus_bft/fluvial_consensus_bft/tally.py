"""The votes of one view: who has signed what, what has a quorum, and who has contradicted himself."""

from __future__ import annotations

from fluvial.ledger.statements import Certificate, Evidence, ValidatorSet, offence, sorted_signatures

SAME_KIND_MAX = 2
"""Votes of one kind that are kept of one signer in one view: two different ones are the proof of an offence."""


class ViewTally:
    """The statements of one view. It counts what it is given: signatures are checked before.

    Args:
        epoch, view: which view.
        validators: who may vote.
    """

    __slots__ = ("_by_signer", "_epoch", "_sums", "_validators", "_view")

    def __init__(self, epoch: int, view: int, validators: ValidatorSet) -> None:
        self._epoch, self._view, self._validators = epoch, view, validators
        self._by_signer: dict[int, list[tuple[int, bytes, bytes]]] = {}
        self._sums: dict[tuple[int, bytes], dict[int, bytes]] = {}

    def knows(self, kind: int, digest: bytes, signer: int) -> bool:
        """Whether this vote was counted."""
        return signer in self._sums.get((kind, digest), ())

    def signature(self, kind: int, digest: bytes, signer: int) -> bytes | None:
        """The signature of a vote that was counted."""
        return self._sums.get((kind, digest), {}).get(signer)

    def has_room(self, kind: int, signer: int) -> bool:
        """Whether another vote of this kind and signer would be kept."""
        return sum(one == kind for one, _, _ in self._by_signer.get(signer, ())) < SAME_KIND_MAX

    def add(self, kind: int, digest: bytes, signer: int, signature: bytes) -> Evidence | None:
        """Count a vote that is new and for which there is room; returns proof if its signer must not have cast it."""
        mine = self._by_signer.setdefault(signer, [])
        proof = None
        for old_kind, old_digest, old_signature in mine:
            if offence(old_kind, old_digest, kind, digest):
                proof = Evidence(
                    self._epoch,
                    self._view,
                    self._validators.keys[signer],
                    (old_kind, old_digest, old_signature),
                    (kind, digest, signature),
                )
                break
        mine.append((kind, digest, signature))
        self._sums.setdefault((kind, digest), {})[signer] = signature
        return proof

    def certificate(self, kind: int, digest: bytes) -> Certificate | None:
        """The certificate that the votes for something make; None if they are no quorum yet."""
        signatures = self._sums.get((kind, digest), {})
        if self._validators.weight(signatures) < self._validators.quorum:
            return None
        return Certificate(kind, self._epoch, self._view, digest, tuple(sorted_signatures(signatures)))
