"""The machine: Kademlia with weights, challenges and signed records, without I/O, clock or randomness of its own."""
