"""Contents that are larger than a message: kept under the hash of what they hold, fetched from any peer that has them, chunk by chunk.

``tree`` says how a content is cut and named, ``catalog`` what is here and what must go, ``schedule`` who fetches which block; they are pure.
``folder`` touches the disk. ``store`` joins these, ``fetching`` and ``download`` ask other peers, ``room`` is the part of the node.
"""
