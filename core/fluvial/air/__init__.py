"""AIR, the language that peers execute: pure, without I/O, clock or randomness.

``syntax`` turns text into a typed tree and back, ``data`` holds what travels and is signed, ``machine`` advances a script.
"""
