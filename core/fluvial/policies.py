"""For authors of authorizations: how a policy of a deployment is checked before the service is deployed, and who acts for the owner of the peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fluvial.identity import PeerId


class PolicyReader(msgspec.Struct, frozen=True):
    """An extension that an authorization may give: it checks what a deployment asks for before the service is deployed.

    The execution finds it with ``context.extensions.all(PolicyReader)``, and refuses a deployment that one of them has a problem with.

    Attributes:
        problem_with: what is wrong with a policy, a JSON value, as a sentence; empty if it can be used.
    """

    problem_with: Callable[[Any], str]


class OwnerDelegate(msgspec.Struct, frozen=True):
    """An extension that a part may give: it has made a key for commands which act for the owner of the peer.

    An authorization finds it with ``context.extensions.all(OwnerDelegate)`` and allows what it allows the owner.

    Attributes:
        peer: whose key that is; None as long as there is none.
    """

    peer: Callable[[], PeerId | None]
