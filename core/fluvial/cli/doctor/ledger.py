"""Checks of the ledger that the settings name."""

from __future__ import annotations

from collections.abc import Iterator

from fluvial.config import Settings
from fluvial.errors import ConfigError
from fluvial.findings import Finding
from fluvial.hosting.genesis_file import read_genesis
from fluvial.identity import KeyPair
from fluvial.ledger.statements import ValidatorSet
from fluvial.storage.opening import IN_MEMORY

BY_CRASHES_ALONE = 4
"""Fewer validators than that tolerate nobody who fails."""


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Whether the genesis can be used, and what this peer is in it; nothing if no ledger is named."""
    section, seat = settings.ledger, settings.seats["consensus"]
    if not section.genesis:
        return
    if seat.kind == "none" and not section.follow:
        text = "`genesis` in [ledger] is set, but this peer neither takes part nor follows"
        yield Finding(level="warn", subject="ledger", text=text, hint="set `follow = true`, or `kind` in [consensus]")
        return
    try:
        genesis = read_genesis(settings.base_dir / section.genesis)
    except ConfigError as error:
        yield Finding(level="fail", subject="ledger", text=error.message, hint=error.hint, code=error.code)
        return
    first = ValidatorSet(genesis.validators)
    text = f"{genesis.name}, {genesis.chain.hex()[:12]}…, begun by {len(first)} validators"
    if len(first) < BY_CRASHES_ALONE:
        yield Finding(
            level="warn", subject="ledger", text=f"{text}: none of them may fail", hint="four tolerate one that fails"
        )
    else:
        yield Finding(level="ok", subject="ledger", text=text)
    if seat.kind != "none":
        yield from _check_voter(settings, first)
        yield from _check_mark(settings, genesis.chain)


def _check_voter(settings: Settings, first: ValidatorSet) -> Iterator[Finding]:
    """Whether a peer with an algorithm in its seat can vote."""
    try:
        me = KeyPair.load(settings.key_file).peer_id
    except ConfigError:
        return  # the check of the key says so
    if settings.storage_url == IN_MEMORY:
        yield Finding(
            level="fail",
            subject="ledger",
            text="the peer keeps nothing, so a restart would lose its votes",
            hint="name a database in [storage]; until then it follows after its first restart",
        )
    if first.index(me) is None:
        text = "this key is none of the first validators: it follows until it is made one"
        yield Finding(level="ok", subject="ledger", text=text)


def _check_mark(settings: Settings, chain: bytes) -> Iterator[Finding]:
    """Whether the key has voted with a database that is gone."""
    from fluvial.hosting.key_mark import NEVER, first_epoch, mark_of  # SQLAlchemy: what looks at no ledger does not pay
    from fluvial.storage.connecting import parse_url

    url = parse_url(settings.storage_url) if settings.storage_url != IN_MEMORY else None
    gone = (
        url is not None and url.get_backend_name() == "sqlite" and not (settings.base_dir / str(url.database)).exists()
    )
    mark = mark_of(settings.key_file)
    epoch = first_epoch(mark.read_bytes(), chain) if mark.exists() else 0
    if gone and epoch:
        when = f"until epoch {epoch} begins" if epoch <= NEVER else "for good, since its mark cannot be read"
        yield Finding(
            level="warn",
            subject="ledger",
            text=f"this key has voted, and its database is gone: it will be silent {when}",
            hint="an administrator begins an epoch by changing the validators (`fluvial consensus submit validators`), or replaces this key by a new one",
        )
