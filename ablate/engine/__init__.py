"""Training and probing: what a worker does."""
