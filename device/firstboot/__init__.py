"""From a card as it was flashed to this one piano: who it is, whom it talks to, by which network."""
