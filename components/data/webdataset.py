"""Pictures in shards of a WebDataset: uncompressed tar files in a folder, searched recursively.

The format is that of github.com/webdataset/webdataset: a sample is the members of a tar file whose names differ in
their extension alone. Here each member that is a picture, by the extensions of `folder`, is one; captions and labels
are not read. Pictures are read where they lie in the shard, without unpacking it.

The split is that of `folder`, by shard and name of the picture: the held-out ones come from a separate folder of
shards, or are the given share with the lowest hashes. So are what is converted, cached and refused. Shards must be on
a disk; shards in object storage are not read.
"""

from typing import Annotated

from pydantic import Field

from ablate.components.data._files import Source
from ablate.components.data._tar import pictures_in
from ablate.components.data.folder import SUFFIXES
from ablate.data.picture import PictureFile
from ablate.data.prepare import check_pictures
from ablate.slots import DataSettings, Picture, Split


class Config(DataSettings):
    """`path`: the folder of shards. `heldout_fraction`: the share of pictures held out, unless there is `heldout_path`.

    `heldout_path`: a folder of shards whose pictures are held out; it may lie inside `path`, and is not used for
    training then.
    """

    path: str
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def preflight(self) -> None:
        """Raise ValueError if a folder is missing or empty, or naming shards or pictures that cannot be used."""
        check_pictures("webdataset", self)


def build(config: Config, split: Split) -> list[Picture]:
    """The pictures of a split, sorted by shard and name.

    Raises ValueError if a folder is missing, holds too few pictures, or a shard cannot be read.
    """
    shards = Source("webdataset", "shard", {".tar"})
    found = {
        f"{shard}/{name}": place
        for shard, path in shards.of(config.path, config.heldout_path, split)
        for name, place in pictures_in(path, frozenset(SUFFIXES), "webdataset").items()
    }
    if not found:
        raise ValueError(
            f"data/webdataset: the shards in {config.path} hold no pictures ({', '.join(sorted(SUFFIXES))})"
        )
    names = sorted(found)
    if config.heldout_path is None:
        names = Source("webdataset", "picture", SUFFIXES).share(names, config.heldout_fraction, split, config.path)
    return [Picture(name, PictureFile(found[name]), found[name].path) for name in names]
