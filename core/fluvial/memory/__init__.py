"""The transport ``memory``: peers of one process that talk over a network which does what a test says."""
