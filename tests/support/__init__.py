"""What several tests need: small studies, the command in a process, finished trials, models with known defects."""
