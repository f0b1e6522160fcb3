"""Simplex, a consensus among peers of which less than a third may lie, as a pure machine."""
