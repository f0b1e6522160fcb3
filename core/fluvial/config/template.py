"""The commented ``fluvial.toml`` that ``fluvial init`` writes: every key with its default, made from the Structs themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
import tomlkit

from fluvial.config.settings import SEAT_DEFAULTS, SEAT_PREFERENCES, CoreSections
from fluvial.plugins import Plugins

COLUMNS: Final = 110
_HEAD: Final = """\
# Settings of a Fluvial peer. A line like `#key = value` shows a default.
# `fluvial config check` looks for mistakes, `fluvial config show --origin` says where every value comes from.
"""


def render(plugins: Plugins, chosen: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a new file.

    Args:
        plugins: who could take the seats; their options are shown.
        chosen: values that are set, by section and key; all other keys are shown as comments with their defaults.
    """
    lines = [_HEAD]
    sections: list[str] = []
    for one in msgspec.structs.fields(CoreSections):
        if isinstance(one.default, msgspec.Struct):
            sections += [f"[{one.name}]", *_keys(type(one.default), chosen.get(one.name, {})), ""]
        else:
            lines += _key(one, chosen.get("", {}))
    for seat, default in SEAT_DEFAULTS.items():
        preferred = SEAT_PREFERENCES.get(seat, default)
        kind = preferred if plugins.offers_of(seat, preferred) else default
        values = chosen.get(seat, {})
        sections += [f"[{seat}]", f"kind = {_toml(kind)}"]
        if len(same := plugins.offers_of(seat, kind)) == 1:
            sections += _keys(same[0].options, values)
        else:  # the plugin is missing, so its keys are not known: write what was chosen, for when it is installed
            sections += [f"{key} = {_toml(value)}" for key, value in values.items()]
        sections.append("")
    return "\n".join([*lines, "", *sections]).rstrip() + "\n"


def _keys(kind: type[msgspec.Struct], values: Mapping[str, Any]) -> Iterator[str]:
    for one in msgspec.structs.fields(kind):
        yield from _key(one, values)


def _key(one: msgspec.structs.FieldInfo, values: Mapping[str, Any]) -> Iterator[str]:
    """The description of a key as comments, then the key: set, or commented out with its default."""
    yield from textwrap.wrap(_description(one.type), COLUMNS, initial_indent="# ", subsequent_indent="# ")
    if one.encode_name in values:
        yield f"{one.encode_name} = {_toml(values[one.encode_name])}"
    elif one.required:
        yield f"#{one.encode_name} = "
    else:
        default = one.default if one.default is not msgspec.NODEFAULT else one.default_factory()
        if default is not None:
            yield f"#{one.encode_name} = {_toml(msgspec.to_builtins(default))}"


def _description(kind: Any) -> str:
    if get_origin(kind) is not Annotated:
        return ""
    texts = [meta.description for meta in get_args(kind)[1:] if isinstance(meta, msgspec.Meta) and meta.description]
    return " ".join(texts)


def _toml(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return str(table.as_string())
    return str(tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string())
