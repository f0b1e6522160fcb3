"""Kademlia with trust weights, challenges on keys and signed provider records: a pure machine, and a laboratory that drives it."""
