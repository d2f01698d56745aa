"""The main job, in the driver process."""
