"""For authors of authorizations: how a policy of a deployment is checked before the service is deployed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class PolicyReader(msgspec.Struct, frozen=True):
    """An extension that an authorization may give: it checks what a deployment asks for before the service is deployed.

    The execution finds it with ``context.extensions.all(PolicyReader)``, and refuses a deployment that one of them has a problem with.

    Attributes:
        problem_with: what is wrong with a policy, a JSON value, as a sentence; empty if it can be used.
    """

    problem_with: Callable[[Any], str]
