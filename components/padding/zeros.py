"""Zero padding, the default of most autoencoders.

VIVAT (arXiv 2506.07863, section 4) names it as the cause of its "corner artifact", a blurred frame around the picture.
"""

from ablate.components.shared.layers import pad_zeros
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config) -> Padding:
    return pad_zeros
