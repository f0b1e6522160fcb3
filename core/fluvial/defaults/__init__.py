"""Small, honest candidates for the seats, so that a peer is complete without further plugins; also for tests and private networks."""
