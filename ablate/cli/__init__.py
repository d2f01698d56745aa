"""The `ablate` command."""
