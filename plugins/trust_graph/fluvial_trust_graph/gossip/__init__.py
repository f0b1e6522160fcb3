"""How statements get from peer to peer: what waits, what is compared, who may hand over how much."""
