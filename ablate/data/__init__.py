"""Pictures, decoded once."""
