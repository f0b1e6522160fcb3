"""The way from peer to peer: puts hops and returns into the instruction tree, which makes it AIR."""
