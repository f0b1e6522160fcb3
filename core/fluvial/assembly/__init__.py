"""Puts a node together: its parts, their life cycle, and the implementations of their ports."""
