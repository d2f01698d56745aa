"""What runs in the driver process: sweeps, and the commands that describe studies."""
