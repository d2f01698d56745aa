"""Decisions that depend on results: search, tuning, pruning."""
