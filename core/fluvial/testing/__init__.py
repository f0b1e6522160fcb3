"""For authors of plugins: a conformance kit for each thing that a plugin can be, one part alone (``solo``), whole nodes in one process (``nodes``).

A failed assertion of a kit says what was compared, as those of the author's own tests do: pytest is asked for that here, before a kit is imported.
"""

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))
