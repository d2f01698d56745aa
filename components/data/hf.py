"""Pictures of a Hugging Face dataset on disk: Parquet files as on the hub, or the folder of `Dataset.save_to_disk`.

Each row is a picture; captions and labels are not read. The package `datasets` is not needed. A picture is what the
feature `Image` stores, a struct with the `bytes` of a picture file, or these bytes themselves
(huggingface.co/docs/datasets, "Image feature"). Rows with the path of a picture in another place are refused.

Held out are the files of a split, those of a separate folder, or the given share of all rows with the lowest hashes.
What is converted, cached and refused is as for `folder`.
"""

from typing import Annotated

from pydantic import Field, model_validator

from ablate.components.data._files import Source
from ablate.components.data._rows import Row, pictures_of
from ablate.data.picture import PictureFile
from ablate.data.prepare import check_pictures
from ablate.slots import DataSettings, Picture, Split


class Config(DataSettings):
    """`path`: the folder, searched recursively. `column`: of the pictures; by default the only one that can hold any.

    `split`: the split that is used; by default all files are. The files of a split begin with its name, as
    `train-00000-of-00002.parquet`, or lie in a folder of this name. `heldout_split`: the split that is held out.
    `heldout_path`: a folder whose pictures are. `heldout_fraction`: the share of rows held out without either.
    """

    path: str
    column: str | None = None
    split: str | None = None
    heldout_split: str | None = None
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> "Config":
        if self.heldout_split and self.heldout_path:
            raise ValueError("'heldout_split' and 'heldout_path' both say what is held out; leave one of them out")
        if self.heldout_split and not self.split:
            raise ValueError("'heldout_split' needs 'split', the one that is trained on")
        if self.heldout_split and self.heldout_split == self.split:
            raise ValueError(f"the split '{self.split}' cannot be held out and trained on")
        return self

    def preflight(self) -> None:
        """Raise ValueError if a folder is missing or empty, or naming files and pictures that cannot be used."""
        check_pictures("hf", self)


def build(config: Config, split: Split) -> list[Picture]:
    """The pictures of a split, sorted by file and row.

    Raises ValueError if a folder is missing, holds too few pictures, or a file cannot be read.
    """
    found = Source("hf", "file", {".parquet", ".arrow"}).of(config.path, config.heldout_path, split)
    files = [(name, path) for name, path in found if not path.name.startswith("cache-")]  # what `datasets` computed
    wanted = config.heldout_split if split == "heldout" and config.heldout_split else config.split
    if wanted and not (split == "heldout" and config.heldout_path):
        others = [name for name, _ in files]
        files = [(name, path) for name, path in files if _is_of(name, wanted)]
        if not files:
            raise ValueError(f"data/hf: {config.path} has no files of a split '{wanted}', but {', '.join(others[:5])}")
    rows: dict[str, Row] = {
        f"{name}/{number:06d}": row
        for name, path in files
        for number, row in enumerate(pictures_of(path, config.column, "hf"))
    }
    names = sorted(rows)
    if not (config.heldout_path or config.heldout_split):
        names = Source("hf", "picture", ()).share(names, config.heldout_fraction, split, config.path)
    return [Picture(name, PictureFile(rows[name]), rows[name].path) for name in names]


def _is_of(name: str, split: str) -> bool:
    """Whether a file is of a split, by its name relative to the dataset's folder."""
    *folders, file = name.split("/")
    return split in folders or file.startswith((f"{split}-", f"{split}."))
