"""What results decide: search, tuning, pruning."""
