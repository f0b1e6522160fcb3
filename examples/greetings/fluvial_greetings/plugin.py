"""Extra ``greetings``: scripts let a peer greet others; both keep the other's word."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import anyio
import msgspec
from anyio.abc import TaskStatus
from fluvial import hookimpl
from fluvial.checks import Subject
from fluvial.effectors import Effector, EffectorError, NoConfig, function
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Capability, Context
from fluvial.seats import Answer, Contributions, Part

from fluvial_greetings import tables

PROTOCOL = "/greetings/word/1"
WORD_BYTES_MAX = 200


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[extras.greetings]``."""

    word: Annotated[str, msgspec.Meta(max_length=50, description="what this peer says when it greets")] = "hello"


class Greetings(Part):
    """Greets when it is asked to, and answers those who greet."""

    def __init__(self, context: Context, options: Options) -> None:
        self._peers = context.peers
        self._database = context.database
        self._clock = context.clock
        self._word = options.word
        self._heard = 0

    def contributions(self) -> Contributions:
        """A protocol, a service, a capability and a check of a running peer."""
        return Contributions(
            answers=(Answer(protocol=PROTOCOL, by=self._answer, bytes_max=WORD_BYTES_MAX, per_sender=1),),
            services=(Service(self),),
            capabilities=lambda: [Capability("service", Service.service_id)],
            health=self._health,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """All work is done in answers and calls."""
        task_status.started()
        await anyio.sleep_forever()

    async def greet(self, peer: PeerId) -> str:
        """The word of a peer, which is given ours; raises FluvialError, such as Unreachable."""
        return await self._keep(peer, await self._peers.request(peer, PROTOCOL, self._word.encode(), timeout_s=5))

    async def words(self) -> dict[str, str]:
        """All that was kept."""
        return await self._database.read(tables.listed)

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        await self._keep(sender, payload)
        return self._word.encode()

    async def _keep(self, peer: PeerId, payload: bytes) -> str:
        try:
            word = payload[:WORD_BYTES_MAX].decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("a word is UTF-8") from error
        if "\0" in word:
            raise RemoteProtocolError("a word has no NUL, which PostgreSQL cannot keep")
        await self._database.write(partial(tables.put, peer=peer, word=word, now_ms=self._clock.now_ms()))
        self._heard += 1
        return word

    def _health(self) -> Iterable[Finding]:
        yield Finding(level="ok", text=f"{self._heard} words heard since the start")


@contextmanager
def told_to_scripts() -> Iterator[None]:
    """What a peer or the database could not do is no bug of this plugin: scripts may know."""
    try:
        yield
    except FluvialError as error:
        raise EffectorError(100, str(error)) from error


class Service(Effector[NoConfig]):
    """Greetings for scripts."""

    service_id = "greetings"

    def __init__(self, part: Greetings) -> None:
        super().__init__()
        self._part = part

    @function(timeout_s=10)
    async def greet(self, peer: PeerId) -> str:
        """The word of another peer; status 100 if it cannot be had."""
        with told_to_scripts():
            return await self._part.greet(peer)

    @function
    async def words(self) -> dict[str, str]:
        """Who has told which word; status 100 if the database fails."""
        with told_to_scripts():
            return await self._part.words()


def check_word(subject: Subject) -> Iterable[Finding]:
    """The peer's word, if the extra is switched on here."""
    options = subject.options.get("extras.greetings")
    if options is None:
        return
    if options.word:
        yield Finding(level="ok", text=f"says {options.word!r}")
    else:
        yield Finding(level="warn", text="says nothing", hint="set `word` in [extras.greetings]")


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the extra and the check."""
    registry.extra("greetings", Greetings, options=Options, tables=tables.TABLES)
    registry.check("greetings", check_word)
