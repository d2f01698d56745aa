"""The opponent of the adversarial term: here three convolutions that give one logit for each patch.

Say here where the discriminator comes from. The losses are those of Lim and Ye, 2017 (arXiv 1705.02894).
"""

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Discriminator, DiscriminatorSettings


class Config(DiscriminatorSettings):
    """`width`: channels of the first layer. `start`: the step of the trial after which the discriminator trains."""

    width: PositiveInt = 32
    start: NonNegativeInt = 0

    @property
    def smallest(self) -> int:
        """Side in px of the smallest picture that it can judge."""
        return 8


def build(config: Config) -> Discriminator:
    return Critic(config.width)


class Critic(Discriminator):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images `b 3 h w` in [-1, 1]; larger means more real."""
        logits: Tensor = self.layers(x)
        return logits

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Its own loss, a scalar, from the logits of real and of reconstructed pictures."""
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The autoencoder's loss, a scalar, from the logits of its reconstructions."""
        return -fake.mean()
