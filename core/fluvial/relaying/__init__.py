"""Clients and their relays: leases, the relays of a client as a key of the directory, and what waits for clients that are away."""
