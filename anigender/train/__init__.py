"""Learning the embedded models. Nothing here is imported at inference."""
