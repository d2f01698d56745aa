"""Your own VAE: any `torch.nn.Module` that encodes and decodes pictures, named as `package.module:Class`.

The class is found beside the study, in the folders of `--components`, or on `sys.path`. `ablate/slots/adapted_vae.py`
says what `encode`, `decode` and `forward` may give. Its constructor draws the weights, seeded by the trial. The slots
within models (norm, padding, upsample, downsample) have no effect: do not vary them.
"""

from typing import Any

from pydantic import ConfigDict

from ablate.slots import Autoencoder, Layers, ModelSettings, registry


class Config(ModelSettings):
    """`target`: the class, or a function that makes the model, as `package.module:Name`.

    All other settings are arguments of the class. `stride` (px) and `latent_channels` are found by running the model on
    a small picture; where they are given they are compared with that, and handed to the class if it takes them.
    """

    model_config = ConfigDict(extra="allow")

    target: str

    @property
    def stride(self) -> int:
        given = (self.model_extra or {}).get("stride")
        if given is None:
            raise AttributeError("stride is found when the model is built")
        return int(given)


def build(config: Config, encoder: Layers, decoder: Layers) -> Autoencoder:
    settings: dict[str, Any] = {name: value for name, value in config.plain().items() if name != "target"}
    model: Autoencoder = registry.build("model", config.target, settings, encoder, decoder)
    return model
