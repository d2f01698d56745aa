"""Records of trials as data frames, and the copy of them that is quick to read."""
