"""One trial: its metrics, its folder and its model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import UsageError
from ablate.store.files import local
from ablate.store.stage import StageFolder

if TYPE_CHECKING:
    from ablate.slots.training import Autoencoder


@dataclass(frozen=True, repr=False)
class TrialResult:
    """One trial. `described`: what `ablate show --json` prints of it."""

    described: dict[str, Any]
    stage: StageFolder

    @property
    def name(self) -> str:
        return str(self.described["name"])

    @property
    def seed(self) -> int:
        return int(self.described["seed"])

    @property
    def levels(self) -> dict[str, Any]:
        """Path of each factor -> its level."""
        return dict(self.described["treatment"])

    @property
    def status(self) -> str:
        return str(self.described["status"])

    @property
    def reason(self) -> str:
        """Why it failed, diverged or was pruned; empty otherwise."""
        return str(self.described["reason"])

    @property
    def metrics(self) -> dict[str, float]:
        """Metric -> value, of the averaged weights; empty until the trial is done."""
        return dict(self.described["metrics"])

    @property
    def folder(self) -> Path:
        """The folder of its last stage in the store: checkpoint, step log, pictures, record."""
        return self.stage.root

    def vae(self, device: str = "cpu") -> "Autoencoder":
        """Its model, with averaged weights, frozen, in eval mode and fp32: `encode(x).mean`, `decode(z)`.

        Pictures are `b 3 h w` in [-1, 1]. Raises UsageError where the trial has no checkpoint yet.
        """
        import torch

        from ablate.probing.load import load_vae

        checkpoint = self.stage.checkpoint
        if not checkpoint.exists():
            raise UsageError(f"trial '{self.name}' has no checkpoint: it is {self.status}; run it with ablate.sweep")
        return load_vae(local(checkpoint), torch.device(device))

    def __repr__(self) -> str:
        shown = list(self.metrics.items())[:4]
        values = ", ".join(f"{name} {value:.4g}" for name, value in shown)
        more = f", {len(self.metrics) - len(shown)} more" if len(self.metrics) > len(shown) else ""
        return f"{self.name}: {self.status}{f', {self.reason}' if self.reason else ''} ({values}{more})"
