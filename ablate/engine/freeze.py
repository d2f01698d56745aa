"""Which weights of a model a stage leaves as they are."""

from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from ablate.errors import nearest
from ablate.slots.training import Autoencoder


def freeze(vae: Autoencoder, what: str, names: Sequence[str]) -> None:
    """Let a stage train all weights but those of the encoder, where `what` is "encoder", and of the parts in `names`.

    Raises ValueError for a name that the model does not have, and where parts leave nothing to train of the encoder or
    of the model.
    """
    if what == "encoder":
        for part in vae.encoding_parts:
            part.requires_grad_(False)
    for name in names:
        part_of(vae, name).requires_grad_(False)
    if not names:
        return
    if not any(parameter.requires_grad for parameter in vae.parameters()):
        raise ValueError(f"model: freeze_parts {', '.join(names)} leaves no weight to train")
    if what != "encoder" and _encoder_is_frozen(vae):
        raise ValueError(f"model: freeze_parts {', '.join(names)} holds all of the encoder; write 'freeze: encoder'")


def _encoder_is_frozen(vae: Autoencoder) -> bool:
    """Whether no weight of the encoder is trained; false for a model that does not say which they are."""
    with suppress(TypeError):
        return not any(parameter.requires_grad for part in vae.encoding_parts for parameter in part.parameters())
    return False


def part_of(vae: Autoencoder, name: str) -> nn.Module:
    """A part of the model by its name; that of a wrapped model (`python`, `released`) by its name within it."""
    modules = dict(vae.named_modules())
    children = [child for child, _ in vae.named_children()]
    prefix = f"{children[0]}." if len(children) == 1 else ""
    found: nn.Module | None = modules.get(name, modules.get(prefix + name))
    if not name or found is None:
        known = {".".join(one.removeprefix(prefix).split(".")[:2]) for one in modules if one not in {"", *children}}
        raise ValueError(f"model: freeze_parts names '{name}', which is no part of the model{nearest(name, known)}")
    return found
