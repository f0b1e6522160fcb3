"""The way of a particle through a peer: inbox, actor, journal, and its deliveries to others."""
