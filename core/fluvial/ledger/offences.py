"""Evidence on the ledger: an offence is recorded once for each offender, who loses the seat among the validators."""

from __future__ import annotations

from typing import Final

from fluvial.identity import PeerId, verify
from fluvial.ledger.genesis import VALIDATORS, Membership
from fluvial.ledger.setting import BlockSetting, BodyFailed, BodySettled
from fluvial.ledger.state import Changes
from fluvial.ledger.statements import Evidence

OFFENCES: Final = "offences"


def punish(changes: Changes, setting: BlockSetting, evidence: Evidence) -> None:
    """Record an offence, and remove the offender from the validators where the parameters say so.

    Only a key that validates, or did so within ``evidence_epochs_max`` epochs, can offend: anybody can make keys that contradict themselves.

    Raises:
        BodyFailed: it proves nothing, is known already, or is too old.
    """
    if changes.get(OFFENCES, evidence.offender) is not None:
        raise BodySettled("known offence")
    last_epoch = changes.read(VALIDATORS, evidence.offender, int)
    oldest = setting.epoch - setting.parameters.evidence_epochs_max
    if last_epoch is None or not oldest <= evidence.epoch <= setting.epoch or last_epoch < oldest:
        raise BodySettled("no validator of late")
    if not evidence.convicts(setting.chain, verify):
        raise BodyFailed("no evidence")
    changes.set(OFFENCES, evidence.offender, evidence)
    membership = changes.read(VALIDATORS, b"", Membership)
    assert membership is not None, "every state that begins with a genesis has validators"
    offender = PeerId.from_public_key(evidence.offender)
    left = tuple(one for one in membership.validators if one.peer != offender)
    enough = len(left) >= setting.parameters.validators_min
    if setting.parameters.remove_offenders and enough and len(left) < len(membership.validators):
        changes.set(VALIDATORS, b"", Membership(setting.epoch + 1, left))
