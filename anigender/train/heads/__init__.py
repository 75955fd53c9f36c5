"""Learning to find heads."""
