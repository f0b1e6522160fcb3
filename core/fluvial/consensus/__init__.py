"""Consensus: the vocabulary of engines, and the replica that runs one between a ledger and a shell."""
