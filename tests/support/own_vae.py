"""VAEs, layers and losses as people write them who do not know ablate."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn


def down(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 4, 2, 1)


def up(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 4, 2, 1)


class Pair(nn.Module):
    """`encode` gives (mean, logvar); stride 4. It has a parameter that no `reset_parameters` draws."""

    def __init__(self, width: int = 8, latent_channels: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(down(3, width), nn.SiLU(), down(width, 2 * latent_channels))
        self.decoder = nn.Sequential(up(latent_channels, width), nn.SiLU(), up(width, 3))
        self.bias = nn.Parameter(torch.full((3, 1, 1), 0.25))

    def moments(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x)
        return out

    def encode(self, x: Tensor):
        return self.moments(x).chunk(2, 1)

    def decode(self, z: Tensor):
        return self.decoder(z) + self.bias


class Mapped(Pair):
    def encode(self, x: Tensor):
        mu, log_var = super().encode(x)
        return {"z": mu, "mu": mu, "log_var": log_var}

    def decode(self, z: Tensor):
        return {"recon": super().decode(z)}


class Distribution(Pair):
    def encode(self, x: Tensor):
        mean, logvar = super().encode(x)
        return torch.distributions.Normal(mean, (0.5 * logvar).exp())

    def decode(self, z: Tensor):
        return (super().decode(z), "more")


class Diffusers(Pair):
    """As diffusers' `AutoencoderKL` gives its results."""

    def encode(self, x: Tensor):
        mean, logvar = super().encode(x)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, logvar=logvar))

    def decode(self, z: Tensor):
        return SimpleNamespace(sample=super().decode(z))


class Moments(Pair):
    def encode(self, x: Tensor):
        return self.moments(x)


class Latents(Pair):
    """No VAE: an autoencoder whose latents are not drawn."""

    def encode(self, x: Tensor):
        return self.moments(x).chunk(2, 1)[0]


class Forward(nn.Module):
    """Only `forward`, which gives (reconstruction, mean, logvar), and a part `decoder`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoder = down(3, width)
        self.fc_mu = nn.Conv2d(width, 4, 1)
        self.fc_var = nn.Conv2d(width, 4, 1)
        self.decoder = up(4, 3)

    def parts(self, x: Tensor):
        h = self.encoder(x)
        mu, logvar = self.fc_mu(h), self.fc_var(h)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

    def forward(self, x: Tensor):
        return self.parts(x)


class ForwardList(Forward):
    """As in PyTorch-VAE: [reconstruction, input, mean, logvar]."""

    def forward(self, x: Tensor):
        y, mu, logvar = self.parts(x)
        return [y, x, mu, logvar]


class ForwardMapping(Forward):
    def forward(self, x: Tensor):
        y, mu, logvar = self.parts(x)
        return {"recon_x": y, "mu": mu, "logvar": logvar}


class Item(Pair):
    """Works on real tensors only, in its constructor and in `encode`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(int(torch.tensor(float(width)).item()))

    def encode(self, x: Tensor):
        if x.abs().sum().item() > 1e9:
            raise ArithmeticError("too bright")
        return super().encode(x)


def make_pair(width: int = 8) -> nn.Module:
    return Pair(width)


class Vector(Pair):
    def encode(self, x: Tensor):
        return tuple(one.flatten(1) for one in super().encode(x))


class Smaller(Pair):
    def decode(self, z: Tensor):
        return super().decode(z)[..., 1:, :]


class NoDecode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = down(3, 8)

    def encode(self, x: Tensor):
        return self.net(x).chunk(2, 1)


class Greyscale(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(down(1, 8), down(8, 8))


class Words(Pair):
    def encode(self, x: Tensor):
        return "latents"


class NoModule:
    def encode(self, x: Tensor):
        return x


class Norm(nn.Module):
    """`Class(channels)`, with a parameter that no `reset_parameters` draws."""

    def __init__(self, channels: int, eps: float = 1e-5, *, start: float = 0.5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((channels, 1, 1), start))

    def forward(self, h: Tensor) -> Tensor:
        return h / (h.square().mean(1, keepdim=True) + self.eps).sqrt() * self.weight


class Conditional(nn.Module):
    def __init__(self, channels: int, latent_channels: int | None) -> None:
        super().__init__()
        self.scale = nn.Conv2d(latent_channels or 1, channels, 1)

    def forward(self, h: Tensor, z: Tensor | None) -> Tensor:
        if z is None:
            return h
        return h * (1 + self.scale(nn.functional.interpolate(z, h.shape[-2:])))


class Doubles(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = up(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h)


class Edges(nn.Module):
    """A loss of torch's kind: of the reconstruction and the target, not reduced."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.power = power

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return (y.diff(dim=-1) - x.diff(dim=-1)).abs() ** self.power


class Detached(nn.Module):
    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return (y - x).detach().abs().mean()
