"""The order of a ledger's blocks from an etcd cluster; see ``plugin.py``."""
