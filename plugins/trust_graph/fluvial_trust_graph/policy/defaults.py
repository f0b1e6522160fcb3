"""What is closed where the settings say nothing: the functions that change the node, or commit its owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

READING: Final[Mapping[str, frozenset[str]]] = {
    "trust": frozenset(
        (
            "add",  # its statements carry their own authority, and a sender has limits
            "explain",
            "get_certificates",
            "get_weight",
            "get_weight_from",
            "is_certified",
            "list_perimeters",
            "list_roots",
            "list_statements",
            "verify",
        )
    ),
    "dist": frozenset(
        (
            "default_module_config",
            "get_blueprint",
            "get_interface",
            "get_module_interface",
            "list_blueprints",
            "list_modules",
            "make_module_config",
        )
    ),
    "srv": frozenset(("get_interface", "info", "list", "resolve_alias", "resolve_alias_opt")),
    "spell": frozenset(("list",)),
    "worker": frozenset(("get_worker_id", "is_active", "list")),
    "vm": frozenset(("status",)),
}
"""Services by which a node is changed, with those of their functions that only look; all others answer to owners alone."""


def is_closed(service: str, function: str) -> bool:
    """Whether a function answers to owners alone unless the settings open it."""
    return service in READING and function not in READING[service]
