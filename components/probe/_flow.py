"""A small diffusion transformer trained by flow matching, to measure how well latents can be learnt.

The transformer is DiT's (Peebles & Xie, "Scalable Diffusion Models with Transformers", 2023, arXiv 2212.09748, adaLN-
Zero) without classes. The path is the straight one of rectified flow (Liu et al., 2022, arXiv 2209.03003): x_t = (1 -
t) x + t e with e standard normal, and the transformer predicts the velocity e - x; t is logit-normal (Esser et al.,
2024, arXiv 2403.03206).

The transformer is narrow, while the noise in a token has as many dimensions as the token. It therefore predicts only
the difference from the best guess for white latents, which is a multiple of x_t, as in EDM (Karras et al., 2022, arXiv
2206.00364): no latent is at a disadvantage merely for its number of channels. Untrained, it generates white noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 64
"""Number of sines, and of cosines, in the embedding of the time."""


@dataclass(frozen=True)
class Budget:
    """Size and training of a generator. `evaluate`: the steps after which it is evaluated. `euler`: sampling steps."""

    width: int
    depth: int
    heads: int
    batch: int
    lr: float
    warmup: int
    ema: float
    evaluate: tuple[int, ...]
    euler: int

    @property
    def steps(self) -> int:
        return self.evaluate[-1]


class DiT(nn.Module):
    """Predicts the velocities of noisy latents. `grid`: tokens along a side, whatever the size of the latent."""

    def __init__(self, shape: Sequence[int], grid: int, budget: Budget) -> None:
        """`shape`: that of a latent, (c, s, s). Raises ValueError if the grid does not divide its side."""
        super().__init__()
        channels, height, width = shape
        if height != width or height % grid:
            raise ValueError(f"{grid} x {grid} tokens do not fill latents of {height} x {width}")
        self.patch = height // grid
        size = channels * self.patch**2
        self.embed = nn.Linear(size, budget.width)
        self.place = nn.Parameter(torch.randn(grid * grid, budget.width) * 0.02)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, budget.width), nn.SiLU(), nn.Linear(budget.width, budget.width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(Block(budget.width, budget.heads) for _ in range(budget.depth))
        self.norm = nn.LayerNorm(budget.width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(budget.width, 2 * budget.width))
        self.out = zeroed(nn.Linear(budget.width, size))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocities `b c s s` of noisy latents `b c s s` at times `b` in [0, 1]."""
        tokens = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)
        h = self.embed(tokens) + self.place
        time = self.time(embedding(t))
        for block in self.blocks:
            h = block(h, time)
        shift, scale = self.modulation(time).unsqueeze(1).chunk(2, -1)
        tokens = self.out(self.norm(h) * (1 + scale) + shift)
        side = x.shape[-1] // self.patch
        difference = F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), self.patch)
        return difference + white_velocity(t)[:, None, None, None] * x


class Block(nn.Module):
    """Self-attention and a perceptron, each scaled, shifted and gated by the embedded time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """Map tokens `b n d`, given the embedded time `b d`, to tokens."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(time).unsqueeze(1).chunk(6, -1)
        h = h + gate * self.attention(self.norm(h) * (1 + scale) + shift)
        out: Tensor = h + gate2 * self.perceptron(self.norm(h) * (1 + scale2) + shift2)
        return out

    def attention(self, h: Tensor) -> Tensor:
        """Written out because the gradients of the fused GPU kernels add in no fixed order."""
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        out: Tensor = self.mix((weights @ v).transpose(1, 2).flatten(2))
        return out


def white_velocity(t: Tensor) -> Tensor:
    """E[e - x | x_t] / x_t for white x of unit variance: cov(e - x, x_t) / var(x_t)."""
    return (2 * t - 1) / (t.square() + (1 - t).square())


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer, with its weights and bias set to 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def embedding(t: Tensor) -> Tensor:
    """Embedding `b 128` of times `b` in [0, 1]: cosines and sines with wavelengths from 1/160 upwards."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES)
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def learn(latents: Tensor, grid: int, budget: Budget) -> Iterator[tuple[int, DiT]]:
    """Train a transformer on latents `m c s s` of about unit variance.

    Yields (step, model with averaged weights) after each step of `budget.evaluate`. Initial weights, batches, noise and
    times come from fixed seeds, so they are the same for all latents of one shape.
    """
    # set up
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model, average = (DiT(latents.shape[1:], grid, budget).to(latents.device) for _ in range(2))
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), budget.lr, (0.9, 0.99), weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(1)
    for step in range(1, budget.steps + 1):
        # warm up the learning rate, draw a batch
        for group in optimizer.param_groups:
            group["lr"] = budget.lr * min(1.0, step / budget.warmup)
        chosen = torch.randint(len(latents), (budget.batch,), generator=generator)
        noise = torch.randn((budget.batch, *latents.shape[1:]), generator=generator).to(latents)
        t = torch.randn(budget.batch, generator=generator).sigmoid().to(latents)
        # train, average the weights
        with torch.enable_grad():
            loss = flow_loss(model, latents[chosen.to(latents.device)], noise, t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        decay = min(budget.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
        if step in budget.evaluate:
            yield step, average


def flow_loss(model: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity, a scalar."""
    share = t[:, None, None, None]
    return F.mse_loss(model(torch.lerp(x, noise, share), t), noise - x)


@torch.no_grad()
def sample(model: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int, batch: int = 128) -> Tensor:
    """Generate latents `n c s s` from noise of that shape, by `steps` Euler steps of equal length."""
    chunks = []
    for x in noise.split(batch):
        for i in range(steps, 0, -1):
            x = x - model(x, x.new_full((len(x),), i / steps)) / steps
        chunks.append(x)
    return torch.cat(chunks)
