"""Head crops to learn from, and the views of them that a net is shown."""
