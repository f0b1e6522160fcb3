"""The way of a particle through a peer: inbox, actor, journal, outbox."""
