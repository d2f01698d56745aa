"""Probing of VAE checkpoints, our own and released ones, without training."""
