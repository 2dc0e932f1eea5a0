"""Online learning: a chat that learns a fact in a few turns, keeps the rest, and can forget it again."""
