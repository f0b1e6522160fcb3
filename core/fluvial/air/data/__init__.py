"""What travels with a particle: facts about instances, in signed batches, and the values they speak of by content id."""
