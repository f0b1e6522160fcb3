"""From checked functions to a tree of instructions in which nothing is left to call but services."""
