"""No extra term on the latents."""

from ablate.slots import Regularizer, RegularizerSettings


class Config(RegularizerSettings):
    """No settings."""


def build(config: Config) -> Regularizer | None:
    return None
