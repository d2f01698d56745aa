"""No discriminator, for an adversarial weight of 0."""

from ablate.slots import Discriminator, DiscriminatorSettings


class Config(DiscriminatorSettings):
    """No settings."""


def build(config: Config) -> Discriminator | None:
    return None
