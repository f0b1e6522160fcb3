"""The white paper's chat as six processes on this machine: what ``fluvial demo`` starts and shows."""
