"""Pictures in shards of a WebDataset: uncompressed tar files in a folder, searched recursively.

The format is that of github.com/webdataset/webdataset: a sample is the members of a tar file whose names differ in
their extension alone. Here each member that is a picture, by the extensions of `folder`, is one; captions and labels
are not read. Pictures are read where they lie in the shard, without unpacking it.

The split is that of `folder`, by shard and name of the picture: the held-out ones come from a separate folder of
shards, or are the given share with the lowest hashes. So are what is converted, cached and refused.

Folders may be in object storage, `s3://bucket/shards` or another location that fsspec reads. Their shards are copied to
the user's cache (`~/.cache/ablate/copies`) before anything starts, and copied again after they have changed. An
interrupted copy begins again with the shards that are missing. Credentials and endpoint come from the environment.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ablate.components.data._files import Source
from ablate.components.data._tar import pictures_in
from ablate.components.data.folder import SUFFIXES
from ablate.data.picture import PictureFile
from ablate.data.prepare import check_pictures
from ablate.data.remote import folder_of, is_url
from ablate.slots import DataSettings, Picture, Split


class Config(DataSettings):
    """`path`: the folder of shards. `heldout_fraction`: the share of pictures held out, unless there is `heldout_path`.

    `heldout_path`: a folder of shards whose pictures are held out; it may lie inside `path`, and is not used for
    training then. Either may be a URL.
    """

    path: str
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def preflight(self) -> None:
        """Raise ValueError if a folder is missing or empty, or naming shards or pictures that cannot be used."""
        check_pictures("webdataset", self)

    def content_paths(self) -> dict[str, Path]:
        """As for every level; URLs stand for the folders of their copies."""
        return super().content_paths() | {text: folder for text, folder in self.folders().items() if is_url(text)}

    def folders(self) -> dict[str, Path]:
        """`path` and `heldout_path` -> the folder on this machine. Raises ValueError for a URL that cannot be read."""
        try:
            found = {self.path: folder_of(self.path, {".tar"})}
            if self.heldout_path is not None:
                above = f"{self.path.rstrip('/')}/"
                within = is_url(self.path) and self.heldout_path.startswith(above)
                inside = found[self.path] / self.heldout_path.removeprefix(above)
                found[self.heldout_path] = inside if within else folder_of(self.heldout_path, {".tar"})
        except ValueError as error:
            raise ValueError(f"data/webdataset: {error}") from None
        return found


def build(config: Config, split: Split) -> list[Picture]:
    """The pictures of a split, sorted by shard and name.

    Raises ValueError if a folder is missing, holds too few pictures, or a shard cannot be read.
    """
    shards = Source("webdataset", "shard", {".tar"})
    folders = {text: str(folder) for text, folder in config.folders().items()}
    heldout = None if config.heldout_path is None else folders[config.heldout_path]
    found = {
        f"{shard}/{name}": place
        for shard, path in shards.of(folders[config.path], heldout, split)
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
