"""Contents that are larger than a message: kept under the hash of what they hold, fetched from any peer that has them, chunk by chunk.

Pure are ``layout`` (how a content is cut), ``tree`` (how it is named and verified), ``catalog`` (what is here, and what must go) and ``schedule``
(who fetches which block). ``folder`` and ``files`` touch the disk. ``store`` joins these, ``fetching`` and ``download`` ask other peers, and
``room`` is the part of the node.
"""
