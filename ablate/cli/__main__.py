from ablate.cli.main import main

main()
