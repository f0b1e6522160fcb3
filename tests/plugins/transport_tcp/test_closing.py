"""How a connection ends: each side says goodbye once, when it is owed nothing, and begins nothing new."""

from __future__ import annotations

import pytest
from fluvial.errors import RemoteProtocolError
from fluvial_transport_tcp.closing import Closing, ConnectionPhase


def test_the_side_that_leaves_first() -> None:
    closing = Closing()
    assert closing.usable
    assert not closing.owes_goodbye
    closing.retire()
    assert not closing.usable
    assert closing.owes_goodbye
    closing.say()
    assert (closing.goodbye_said, closing.goodbye_heard, closing.owes_goodbye) == (True, False, False)
    closing.hear()
    assert closing.phase is ConnectionPhase.DONE


def test_the_side_that_hears_it_first() -> None:
    closing = Closing()
    closing.hear()
    assert not closing.usable
    closing.retire()
    assert closing.owes_goodbye
    closing.say()
    assert closing.phase is ConnectionPhase.DONE


@pytest.mark.parametrize("said", [False, True])
def test_goodbye_is_said_once(said: bool) -> None:
    closing = Closing()
    closing.hear()
    if said:
        closing.say()
    with pytest.raises(RemoteProtocolError, match="again"):
        closing.hear()


def test_after_the_end_nothing_matters() -> None:
    closing = Closing()
    closing.end()
    closing.retire()
    closing.hear()
    assert closing.phase is ConnectionPhase.ENDED
    assert not closing.usable
    assert not closing.owes_goodbye
