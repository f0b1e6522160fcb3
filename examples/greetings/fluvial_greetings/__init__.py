"""Peers greet each other and keep the words."""
