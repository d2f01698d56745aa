"""No discriminator; goes with an adversarial weight of 0."""

from ablate.registry import Settings
from ablate.slots import Discriminator


class Config(Settings):
    """No settings."""


def build(config: Config) -> Discriminator | None:
    return None
