"""`python -m benchmarks [NAME ...]`: run the named benchmarks, or all of them, and write `results/NAME.json`."""

import importlib
import os
import sys

from benchmarks import NAMES


def main(names: list[str]) -> None:
    """Run benchmarks and print a line for each. Exits with an error for an unknown name."""
    if unknown := [name for name in names if name not in NAMES]:
        sys.exit(f"unknown benchmark '{unknown[0]}'; valid: {', '.join(NAMES)}")
    for name in names or NAMES:
        load = os.getloadavg()[0]
        comparison = importlib.import_module(f"benchmarks.{name}").run()
        comparison.write(name, load)
        print(comparison.line(name), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
