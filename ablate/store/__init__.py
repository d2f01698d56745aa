"""The store: records, checkpoints, logs and pictures on disk."""
