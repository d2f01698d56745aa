"""Levels to begin with, one for each slot: `ablate new norm/mine` copies `norm.py`. In a copy `starter` is its name."""
