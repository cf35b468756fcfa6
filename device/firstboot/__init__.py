"""From a card as it was flashed to this one piano: its name, its networks, whom it talks to."""
