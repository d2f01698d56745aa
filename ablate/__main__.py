"""`python -m ablate`."""

from ablate.cli.main import main

main()
