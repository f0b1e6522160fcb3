"""Particles on their way out: what each peer has to get, and who has the next turn at it."""
