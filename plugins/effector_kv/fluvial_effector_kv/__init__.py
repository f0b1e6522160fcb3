"""A key-value store for guests."""
