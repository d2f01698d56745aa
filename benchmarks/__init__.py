"""Speed as ratios: `ablate` and a named peer do the same work in alternation on one machine. See README.md."""

NAMES = ("startup", "mirror", "step", "overhead", "table")
"""The benchmarks. Each is a module of this package with a function `run() -> Comparison`, and a file in `results/`."""
