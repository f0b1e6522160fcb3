"""The white paper as six processes on this machine: what ``fluvial demo`` starts, does and shows."""
