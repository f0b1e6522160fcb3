"""Checks what a part contributes before anything of it is used: a part that contributes nonsense fails as if it could not be built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fluvial.assembly.switchboard import check_answer
from fluvial.effectors import Effector
from fluvial.errors import PluginError
from fluvial.seats import Answer, Contributions
from fluvial.services import describe

T = TypeVar("T")


def checked(given: object, *, owner: str) -> Contributions:
    """The contributions of a part, well-formed.

    Args:
        given: what ``contributions()`` returned.
        owner: the part, for messages.

    Raises:
        PluginError: something is impossible, or stands twice. TypeError: something is of another type.
    """
    (contributions,) = _all(Contributions, [given], "contributions()")
    answers = _all(Answer, contributions.answers, "answers")
    for answer in answers:
        check_answer(answer, owner)
    _once([answer.protocol for answer in answers], f"{owner} answers the protocol")
    services = _all(Effector, contributions.services, "services")
    _once([describe(type(service)).service_id for service in services], f"{owner} gives the service")
    for name in ("capabilities", "health"):
        if not (getattr(contributions, name) is None or callable(getattr(contributions, name))):
            raise TypeError(f"{name} is no function")
    return Contributions(
        answers=answers,
        services=services,
        watchers=tuple(contributions.watchers),
        capabilities=contributions.capabilities,
        health=contributions.health,
        extensions=tuple(contributions.extensions),
    )


def _all(kind: type[T], values: Iterable[object], what: str) -> tuple[T, ...]:
    kept = tuple(values)
    for value in kept:
        if not isinstance(value, kind):
            raise TypeError(f"{what}: a {type(value).__name__} stands where a {kind.__name__} must")
    return kept  # type: ignore[return-value]  # it was checked


def _once(names: Sequence[str], what: str) -> None:
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise PluginError(f"{what} {twice!r} twice")
