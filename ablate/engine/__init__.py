"""A worker: build, train, probe, record."""
