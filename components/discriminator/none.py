"""No discriminator, for an adversarial weight of 0."""

from ablate.slots import Discriminator, Settings


class Config(Settings):
    """No settings."""


def build(config: Config) -> Discriminator | None:
    return None
