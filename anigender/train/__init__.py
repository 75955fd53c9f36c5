"""Learning: the embedded models, classifiers of one's own and quality heads. Nothing here is imported at inference."""
