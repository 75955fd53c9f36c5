"""Learning to tell gender: the embedded classifier from nothing, and any other one from what it is."""
