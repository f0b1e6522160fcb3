"""JSON Schema of ``fluvial.toml`` as this machine understands it: core's sections and those of all installed plugins."""

from __future__ import annotations

from typing import Any

import msgspec

from fluvial.config.loading import SWITCHED
from fluvial.config.settings import SEAT_DEFAULTS, CoreSections
from fluvial.offers import Offer
from fluvial.plugins import Plugins
from fluvial.seats import SEATS

_REFERENCE = "#/$defs/{name}"


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """The schema (draft 2020-12), for editors that check and complete TOML."""
    offers = [offer for offer in plugins.registry.offers() if len(plugins.offers_of(offer.kind, offer.name)) == 1]
    types = [CoreSections, *dict.fromkeys(offer.options for offer in offers)]
    references, definitions = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    tables = {kind: _definition(reference, definitions) for kind, reference in zip(types, references, strict=True)}
    core = tables[CoreSections]
    seats = {seat: _seat(seat, [offer for offer in offers if offer.kind == seat], tables) for seat in SEATS}
    switched = {
        section: {offer.name: tables[offer.options] for offer in offers if offer.kind == kind}
        for section, kind in SWITCHED.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **core,
        "title": "fluvial.toml",
        "properties": {
            **core["properties"],
            **seats,
            **{
                section: {"type": "object", "properties": properties, "additionalProperties": False}
                for section, properties in switched.items()
            },
        },
        "$defs": definitions,
    }


def _definition(reference: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[reference["$ref"].rpartition("/")[2]]
    return found


def _seat(seat: str, offers: list[Offer], tables: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """A seat: the name of an offer alone, or a table of ``kind`` and that offer's options."""
    default = dict(SEAT_DEFAULTS)[seat]  # type: ignore[index]  # every seat has one
    forms: list[dict[str, Any]] = [{"enum": [offer.name for offer in offers]}]
    for offer in offers:
        table = tables[offer.options]
        required = [*table.get("required", ()), *(["kind"] if offer.name != default else ())]
        properties = {"kind": {"const": offer.name}, **table.get("properties", {})}
        forms.append({**table, "title": f"{seat} {offer.name}", "properties": properties, "required": required})
    return {"anyOf": forms, "default": default}
