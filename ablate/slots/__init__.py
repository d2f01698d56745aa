"""What a level is given and what it must give back; how levels are found."""
