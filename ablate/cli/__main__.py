"""`python -m ablate.cli`."""

from ablate.cli.main import main

main()
