"""No extra term on the latents."""

from ablate.slots.settings import Settings
from ablate.slots.training import Regularizer


class Config(Settings):
    """No settings."""


def build(config: Config) -> Regularizer | None:
    return None
