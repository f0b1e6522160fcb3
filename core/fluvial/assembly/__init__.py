"""Puts a node together: its parts, how they live, and what stands behind their ports."""
