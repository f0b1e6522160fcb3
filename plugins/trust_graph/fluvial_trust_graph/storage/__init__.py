"""Statements and roots in the database of the node."""
