"""Aqua, the language people write flows in: a compiler to AIR, commands, and flows to run from Python."""
