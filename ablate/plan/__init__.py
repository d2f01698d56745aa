"""From a study to its treatments, trials and their cost."""
