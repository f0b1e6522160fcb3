"""AIR text to a checked, typed tree and back.

``parse`` reads and checks a script, ``to_text`` writes a tree, ``format_text`` sets a file anew, ``head`` names one instruction as error
objects do. ``tree`` has the instructions and operands. What is refused raises an ``AirSyntaxError`` with the place and a hint.
"""

from fluvial.air.syntax import tree
from fluvial.air.syntax.errors import AirSyntaxError, UndefinedName
from fluvial.air.syntax.formatter import format_text
from fluvial.air.syntax.lambdas import LambdaError, lambda_text, parse_lambda
from fluvial.air.syntax.parser import decode, parse, parse_bytes
from fluvial.air.syntax.printer import head, to_text
from fluvial.air.syntax.tree import Script

__all__ = [
    "AirSyntaxError",
    "LambdaError",
    "Script",
    "UndefinedName",
    "decode",
    "format_text",
    "head",
    "lambda_text",
    "parse",
    "parse_bytes",
    "parse_lambda",
    "to_text",
    "tree",
]
