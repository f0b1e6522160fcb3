"""The host of consensus engines and followers: disk, network and clock around a replica, and the port ``ledger``."""
