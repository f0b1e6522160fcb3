"""Whole networks in one process with virtual time: scenarios that play one particle to quiescence."""
