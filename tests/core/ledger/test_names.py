"""Names on the ledger: nobody is overtaken, and a lease ends."""

from __future__ import annotations

import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.identity import KeyPair
from fluvial.ledger.execution import execute
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.names import (
    GRACE_BLOCKS,
    LEASE_BLOCKS,
    REVEAL_MAX,
    ChangeName,
    CommitName,
    ReleaseName,
    RevealName,
    commitment,
    resolve,
)
from fluvial.ledger.state import State
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import Body, sign_transaction

ANN, EVE = keys_of("ann"), keys_of("eve")
GENESIS = Genesis(name="test", time_ms=0, validators=(Validator(str(ANN.peer_id)),))
SALT = b"s" * 32


class LedgerAtHeights:
    """A ledger on which transactions are executed one by one, each at a height."""

    def __init__(self) -> None:
        self.state: State = GENESIS.state()
        self._nonces: dict[bytes, int] = {}

    def run(self, keys: KeyPair, body: Body, height: int) -> str:
        nonce = self._nonces.get(keys.public_key, 0)
        self._nonces[keys.public_key] = nonce + 1
        transaction = sign_transaction(keys, GENESIS.chain, nonce, body)
        done = execute(self.state, [transaction], chain=GENESIS.chain, height=height, time_ms=height, strict=True)
        self.state = done.state
        return done.results[0]

    def take(self, keys: KeyPair, name: str, *, at: int = 1, after: int = 1) -> str:
        assert self.run(keys, CommitName(commitment(name, SALT, keys.public_key)), at) == ""
        return self.run(keys, RevealName(name, SALT, f"of {name}"), at + after)


def test_a_name_is_taken_changed_and_released() -> None:
    ledger = LedgerAtHeights()
    assert ledger.take(ANN, "chat") == ""
    record = resolve(ledger.state, "chat", 3)
    assert record is not None
    assert (record.owner, record.target) == (ANN.public_key, "of chat")
    assert ledger.run(EVE, ChangeName("chat", "mine"), 3) == "not the owner"
    assert ledger.run(ANN, ChangeName("chat", "service:chat", EVE.public_key), 4) == ""
    assert ledger.run(ANN, ReleaseName("chat"), 5) == "not the owner"
    assert ledger.run(EVE, ReleaseName("chat"), 6) == ""
    assert resolve(ledger.state, "chat", 7) is None


def test_who_sees_a_name_revealed_cannot_be_first_any_more() -> None:
    ledger = LedgerAtHeights()
    assert ledger.run(EVE, RevealName("chat", SALT, "eve's"), 2) == "not committed in time"
    assert ledger.take(ANN, "chat") == ""
    assert ledger.take(EVE, "chat", at=3) == "taken"


def test_who_commits_to_what_somebody_else_has_committed_to_changes_nothing() -> None:
    """Eve sees Ann's commitment on its way, and is faster."""
    ledger = LedgerAtHeights()
    seen = commitment("chat", SALT, ANN.public_key)
    assert ledger.run(EVE, CommitName(seen), 1) == ""
    assert ledger.run(ANN, CommitName(seen), 1) == ""
    assert ledger.run(ANN, CommitName(seen), 1) == "committed already"
    assert ledger.run(EVE, RevealName("chat", SALT, "eve's"), 2) == "not committed in time"
    assert ledger.run(ANN, RevealName("chat", SALT, "ann's"), 2) == ""


@pytest.mark.parametrize(
    ("after", "result"), [(0, "not committed in time"), (REVEAL_MAX, ""), (REVEAL_MAX + 1, "not committed in time")]
)
def test_a_name_is_revealed_in_time(after: int, result: str) -> None:
    assert LedgerAtHeights().take(ANN, "chat", after=after) == result


@pytest.mark.parametrize("name", ["Chat", "-chat", "chat-", "сhat", "a b", "é", "x" * 64 + "y", ".", "chat\n"])
def test_some_texts_are_no_names(name: str) -> None:
    if len(name) <= 64:
        assert LedgerAtHeights().take(ANN, name) == "no name"


def test_a_lease_ends_and_its_owner_has_a_while_to_renew() -> None:
    ledger = LedgerAtHeights()
    assert ledger.take(ANN, "chat") == ""
    end = 2 + LEASE_BLOCKS
    assert resolve(ledger.state, "chat", end) is not None
    assert resolve(ledger.state, "chat", end + 1) is None
    assert ledger.take(EVE, "chat", at=end + 1) == "taken"
    kept = ledger.state
    assert ledger.run(ANN, ChangeName("chat", renew=True), end + GRACE_BLOCKS) == ""
    assert resolve(ledger.state, "chat", end + GRACE_BLOCKS + LEASE_BLOCKS) is not None
    ledger.state = kept
    ledger._nonces[ANN.public_key] -= 1
    assert ledger.run(ANN, ChangeName("chat", renew=True), end + GRACE_BLOCKS + 1) == "not the owner"
    other = LedgerAtHeights()
    other.state = kept
    other._nonces = {EVE.public_key: 2}
    salt = b"t" * 32
    assert other.run(EVE, CommitName(commitment("chat", salt, EVE.public_key)), end + GRACE_BLOCKS) == ""
    assert other.run(EVE, RevealName("chat", salt, "hers"), end + GRACE_BLOCKS + 1) == ""
