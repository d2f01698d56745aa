"""No extra term on the latents."""

from ablate.registry import Settings
from ablate.slots import Regularizer


class Config(Settings):
    """No settings."""


def build(config: Config) -> Regularizer | None:
    return None
