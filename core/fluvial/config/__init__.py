"""``fluvial.toml``, environment and command line into typed settings.

:func:`read` merges the sources into a :class:`Document` that remembers where every value comes from; :func:`load` checks it, loads the
plugins and returns a :class:`Configuration`. Every plugin owns the schema of its section: the options Struct of the offer that the
config names.
"""

from fluvial.config.checking import InvalidSettings, Problem
from fluvial.config.document import Document, Origin
from fluvial.config.loading import (
    Configuration,
    EffectiveValue,
    entries,
    from_values,
    installed_plugins,
    load,
    plugins_section,
    read,
)
from fluvial.config.settings import SEAT_DEFAULTS, Choice, Settings

__all__ = [
    "SEAT_DEFAULTS",
    "Choice",
    "Configuration",
    "Document",
    "EffectiveValue",
    "InvalidSettings",
    "Origin",
    "Problem",
    "Settings",
    "entries",
    "from_values",
    "installed_plugins",
    "load",
    "plugins_section",
    "read",
]
