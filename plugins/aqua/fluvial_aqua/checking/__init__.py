"""Names and types: from syntax trees to a checked tree in which nothing is left that could be in error."""
