"""No extra term on the latents."""

from ablate.slots import Regularizer, Settings


class Config(Settings):
    """No settings."""


def build(config: Config) -> Regularizer | None:
    return None
