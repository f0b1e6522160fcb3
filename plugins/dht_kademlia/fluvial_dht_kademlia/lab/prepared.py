"""A network whose peers know each other already: what joining converges to, without the messages that it takes.

Each peer's bucket has ``k`` random peers of those that belong into it, or all of them if they are fewer. Lookups and records work as always.
"""

from __future__ import annotations

from bisect import bisect_left

from fluvial_dht_kademlia.lab.network import LabNetwork, LabPeer
from fluvial_dht_kademlia.machine.keyspace import KEY_BITS, Key


def prepare(network: LabNetwork, count: int) -> list[LabPeer]:
    """Add peers to an empty network, each with full tables."""
    peers = sorted((network.add(f"prepared/{number}") for number in range(count)), key=lambda peer: peer.machine.key)
    keys = [peer.machine.key for peer in peers]
    for peer in peers:
        own = peer.machine.key
        for index in range(KEY_BITS - 1, -1, -1):
            first = ((own >> index) ^ 1) << index  # the keys that share all bits above this one, and differ in it
            low, high = bisect_left(keys, first), bisect_left(keys, first + (1 << index))
            for number in network.rng.sample(range(low, high), min(high - low, network.limits.k)):
                peer.machine.table.seen(peers[number].contact)
            peer.machine.table.looked_up(Key(first), network.now)
            alone = bisect_left(keys, (own >> index) << index), bisect_left(keys, ((own >> index) + 1) << index)
            if alone[1] - alone[0] <= 1:
                break  # nobody shares more bits
    return peers
