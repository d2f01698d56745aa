"""VAE checkpoints, our own and those that others released, loaded as `Autoencoder`s."""
