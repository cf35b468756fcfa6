"""How the ear learns: pianos are rendered, models trained on them, and both measured."""
