"""No discriminator; goes with an adversarial weight of 0."""

from ablate.slots.settings import Settings
from ablate.slots.training import Discriminator


class Config(Settings):
    """No settings."""


def build(config: Config) -> Discriminator | None:
    return None
