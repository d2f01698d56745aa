"""A VAE that others released, trained further: a folder of diffusers, or a single file of LTX-2 or LDM.

It begins with the weights of its folder; `init` fills the discriminator alone. What others do with a released VAE is
then a stage: `freeze: encoder` tunes the decoder, `freeze_parts` leaves parts as they are. Its scaling and shift of
latents (`scaling_factor`, `latents_mean`, …) are for what generates latents; training neither uses nor changes them.
`VQModel` decodes quantised latents, with the gradient passed straight through (van den Oord et al., 2017, arXiv
1711.00937, section 3.2); its codebook stays as released. The posterior of a deterministic encoder has no width.

Its layers are those of its class, so no slot within models can be set, except `padding` for classes that pad in their
convolutions; `zeros`, the default, leaves the padding as released. docs/released.md describes all of this.
"""

from pathlib import Path
from typing import Any, ClassVar

from ablate.slots import Autoencoder, Layers, ModelSettings


class Config(ModelSettings):
    """`path`: the folder, or that of a pipeline with the VAE in `vae`, or the file.

    `checkpointing`: activations are computed again in the backward pass, which saves memory. `tiling`: large pictures
    are encoded and decoded in tiles of the class's own size. Both only where the class has it.
    """

    path: str
    checkpointing: bool = False
    tiling: bool = False

    own_layers: ClassVar[bool] = True

    @property
    def stride(self) -> int:
        if (stride := self._shape().stride) is None:
            raise AttributeError("the stride is found when the model is built")
        return int(stride)

    @property
    def groups(self) -> int:
        return int(self._shape().groups)

    @property
    def clip_multiple(self) -> int:
        """Clips have 1 + a multiple of this frames."""
        return int(self._shape().clip_multiple)

    @property
    def temporal(self) -> bool:  # type: ignore[override]
        return bool(self._shape().video)

    @property
    def deterministic(self) -> bool:
        return bool(self._shape().deterministic)

    def _shape(self) -> Any:
        """What the folder holds. Raises AttributeError where that cannot be known, which `preflight` explains."""
        from ablate.released.shape import shape_of

        try:
            return shape_of(Path(self.path))
        except (ValueError, OSError, RuntimeError) as error:
            raise AttributeError(str(error)) from None

    def preflight(self) -> None:
        """Raise ValueError if there is no VAE that can be loaded, or if its files cannot hold weights."""
        import importlib.util

        from ablate.released.shape import shape_of

        shape_of(Path(self.path))
        if importlib.util.find_spec("diffusers") is None:
            raise ValueError(f"{self.path} needs diffusers: pip install 'ablate-vae[probe]'")

    def content_paths(self) -> dict[str, Path]:
        """Configuration and weights; other files of the folder do not matter."""
        from ablate.released.files import content_files

        root = Path(self.path).expanduser()
        try:
            found = content_files(root)
        except (ValueError, OSError):
            return {}
        if root.is_file():
            return {self.path: root}
        return {f"{self.path.rstrip('/')}/{file.relative_to(root).as_posix()}": file for file in found}


def build(config: Config, encoder: Layers, decoder: Layers) -> Autoencoder:
    """Raises ValueError as `load_released`, and where the class lacks what the settings or `padding` ask for."""
    from ablate.components.shared.layers import pad_zeros
    from ablate.released.load import load_released
    from ablate.released.padding import CLASSES, pad_by
    from ablate.slots.user_calls import keep_weights

    try:
        vae = load_released(Path(config.path), clips=True)
    except ValueError as error:
        raise ValueError(f"model: {error}") from None
    name, model = vae.class_name, vae.model
    if config.checkpointing:
        if not model._supports_gradient_checkpointing:
            raise ValueError(f"model: {name} has no gradient checkpointing; leave model.checkpointing out")
        model.enable_gradient_checkpointing()
    if config.tiling:
        if not hasattr(model, "use_tiling"):
            raise ValueError(f"model: {name} has no tiling; leave model.tiling out")
        model.enable_tiling()
    for padding, part in ((encoder.padding, model.encoder), (decoder.padding, model.decoder)):
        if padding is pad_zeros:
            continue
        if name not in CLASSES:
            raise ValueError(f"padding: {name} pads in its own code; only that of {', '.join(CLASSES)} can be set")
        pad_by(part, padding)
    keep_weights(vae)
    return vae
