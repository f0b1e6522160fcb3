"""The plain form of the AIR machine, which walks the whole script in every evaluation: the oracle of the incremental one.

Script order, waiting and errors are plain to read in it. It shares values, lambdas, errors and facts with the real one.
"""
