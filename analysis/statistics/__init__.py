"""The statistics: effects, intervals, corrections, factorial designs, claims, rankings."""
