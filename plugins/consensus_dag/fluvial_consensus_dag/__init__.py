"""A consensus over an uncertified DAG (the rules of Mysticeti-C), without leaders' proposals and without votes, as a pure machine."""
