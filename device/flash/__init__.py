"""Writing cards: one, or a batch of hundreds, each with its own name and networks."""
