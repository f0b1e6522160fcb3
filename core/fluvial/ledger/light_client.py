"""The light client: it believes one fact of the ledger on 32 bytes of state root, whoever hands it over.

:func:`is_proven` is the whole check: the block is final, by a quorum of signatures, and its state holds a value at a key, or nothing. A client that was away
follows the last block of each epoch since, in whose state the next validators stand; each is signed by those that it knows already.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import verify
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.genesis import VALIDATORS, Genesis, Membership
from fluvial.ledger.state import State
from fluvial.ledger.statements import ValidatorSet, Verify
from fluvial.ledger.tree import TreeProof

EPOCHS_KEPT: Final = 64
"""Sets of validators that a client remembers."""


class ProvenFact(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger says at one key, for others.

    Attributes:
        header: of a final block.
        finality: shows that it is final.
        value: at the key in the state after that block; None if there is nothing.
        path: shows that.
    """

    header: BlockHeader
    finality: FinalityProof
    value: Annotated[bytes, msgspec.Meta(max_length=1 << 20)] | None
    path: TreeProof


def prove_fact(state: State, header: BlockHeader, finality: FinalityProof, module: str, key: bytes) -> ProvenFact:
    """The proof of what a state holds at a key.

    Args:
        state: after the block.
        header: of the block.
        finality: shows that the block is final.
        module: of the key.
        key: what is asked.
    """
    return ProvenFact(header, finality, state.get(module, key), state.proof(module, key))


def is_proven(
    fact: ProvenFact, module: str, key: bytes, *, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify
) -> bool:
    """Whether a fact about a key is proven. With a value of None it is the key's absence.

    Args:
        fact: of anybody.
        module: of the key.
        key: what was asked.
        chain: id of the ledger.
        epoch: the epoch in which these validators decide.
        validators: of that epoch.
        verify: checks a signature.
    """
    return fact.finality.proves(fact.header, chain, epoch, validators, verify) and fact.path.shows(
        fact.header.state, module, key, fact.value
    )


class LightClient:
    """Follows the validators from one epoch to the next, and checks facts.

    Args:
        genesis: of the ledger, from a source that is trusted.
        epoch: who has trusted more than the genesis already begins in this epoch,
        validators: with these; else with those of the genesis.

    Attributes:
        epoch: the newest one that is known.
        height: of the newest block that was shown.
    """

    def __init__(self, genesis: Genesis, *, epoch: int = 0, validators: ValidatorSet | None = None) -> None:
        self._chain: Final = genesis.chain
        self._sets = {epoch: validators or ValidatorSet(genesis.validators)}
        self.epoch = epoch
        self.height = 0

    @property
    def validators(self) -> ValidatorSet:
        """Of the newest epoch that is known."""
        return self._sets[self.epoch]

    def follow(self, step: ProvenFact, *, verify: Verify = verify) -> None:
        """Go on to the next epoch.

        Args:
            verify: checks signatures.
            step: the fact about the validators (module ``validators``, empty key) of the last block of the newest epoch.

        Raises:
            RemoteProtocolError: it does not show the next validators.
        """
        value = self.checked(step, VALIDATORS, b"", verify=verify)
        if value is None or step.header.epoch != self.epoch:
            raise RemoteProtocolError("this is not the last block of the epoch that is known")
        following = decode(value, Membership, what="membership")
        if following.epoch != self.epoch + 1:
            raise RemoteProtocolError("the validators are the same after this block")
        self._sets[following.epoch] = ValidatorSet(following.validators)
        self.epoch = following.epoch
        self._sets.pop(self.epoch - EPOCHS_KEPT, None)

    def set_of(self, epoch: int) -> ValidatorSet | None:
        """The validators of an epoch, if they are known."""
        return self._sets.get(epoch)

    def checked(
        self, fact: ProvenFact, module: str, key: bytes, *, height_min: int = 0, verify: Verify = verify
    ) -> bytes | None:
        """The value that a fact proves; None if it proves the key's absence.

        Args:
            fact: of anybody.
            module: of the key.
            key: what was asked.
            height_min: how new it must be: an old proof shows only what was.
            verify: checks signatures.

        Raises:
            RemoteProtocolError: it proves nothing, is too old, or is of an epoch that is not known.
        """
        validators = self._sets.get(fact.header.epoch)
        if validators is None:
            raise RemoteProtocolError(
                f"the validators of epoch {fact.header.epoch} are not known", hint="follow the epochs since"
            )
        epoch = fact.header.epoch
        if not is_proven(fact, module, key, chain=self._chain, epoch=epoch, validators=validators, verify=verify):
            raise RemoteProtocolError("this is no proof of what was asked")
        if fact.header.height < height_min:
            raise RemoteProtocolError(f"this proof is of height {fact.header.height}, which is too old")
        self.height = max(self.height, fact.header.height)
        return fact.value
