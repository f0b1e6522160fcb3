"""What the checkers of one body share."""

from __future__ import annotations

from msgspec import Struct, field

from fluvial_aqua.checking.declarations import Declarations
from fluvial_aqua.checking.modules import Declared, Module
from fluvial_aqua.checking.scopes import NameScope
from fluvial_aqua.checking.tree import FunctionUnit, TextPlace, Variable
from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.text import Span


class PaperOptions(Struct, frozen=True):
    """How the paper dialect finds services that a script leaves open.

    Attributes:
        service: of calls of a function that no declared service has: ``relay.resolve_backend(…)``.
        sender_service: of such calls on ``sender``: ``sender.error(…)``.
    """

    service: str = "app"
    sender_service: str = "chat"


class BodyContext(Struct, eq=False):
    """The function that is being checked, and where its checker is.

    Attributes:
        unit: the function; closures inside of it note their calls there, too.
        scope: the names at the present place.
        declared: every variable of the function, to find those that are not used.
        paper: set in the paper dialect.
        parallel: how many parallel branches and loops are around.
        position: the definition of the function begins here; earlier ones may not be shadowed.
    """

    module: Module
    declarations: Declarations
    unit: FunctionUnit
    scope: NameScope
    declared: list[Variable]
    paper: PaperOptions | None = None
    parallel: int = 0
    position: int = 0
    gathered: set[Variable] = field(default_factory=set)

    @property
    def reporter(self) -> DiagnosticCollector:
        """Gets what is wrong."""
        return self.declarations.reporter

    def error(self, span: Span, code: str, message: str, hint: str = "") -> None:
        """Note a mistake of this body."""
        self.unit.valid = False
        self.reporter.error(self.module.source, span, code, message, hint)

    def warning(self, span: Span, code: str, message: str, hint: str = "") -> None:
        """Note something odd in this body."""
        self.reporter.warning(self.module.source, span, code, message, hint)

    def mention(self, span: Span, target: Variable | Declared) -> None:
        """A name in the text stands for something."""
        self.declarations.mention(self.module, span, target)

    def place(self, span: Span) -> TextPlace:
        """A place in this file."""
        return TextPlace(self.module.source, span)
