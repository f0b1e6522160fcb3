"""Aqua text to a syntax tree: tokens, indentation, recursive descent, and for expressions a Pratt parser."""

from fluvial_aqua.syntax.parser import parse

__all__ = ["parse"]
