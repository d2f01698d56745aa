"""Pictures and clips: decoded once, then cropped from memory."""
