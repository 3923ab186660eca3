"""Where published data sets lie: `root` in the recipe, else the folder that VAEBM_DATA names, else the user's cache.

    ROOT/NAME/FILE    the files as they are published; a set's files may also lie in ROOT itself
    ROOT/NAME/prepared/    its shards, where `vaebm data prepare NAME` made them

What is not there is downloaded there, where it can be.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from vaebm.data.download import Published, obtain
from vaebm.data.splits import ImageSettings
from vaebm.progress import Progress

VARIABLE = "VAEBM_DATA"


def data_root(root: str | None = None) -> Path:
    """The folder of data sets."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vaebm"


class StoredSettings(ImageSettings):
    """What recipes may say of a published set of images."""

    root: str | None = Field(None, description="folder of data sets; null: $VAEBM_DATA, else ~/.cache/vaebm")

    def folders(self, name: str) -> tuple[Path, Path]:
        """Where the files of a set may lie; the last is where they are put."""
        root = data_root(self.root)
        return root, root / name

    def obtain(self, file: Published, name: str, progress: Progress | None = None) -> Path:
        """A file of the set `name`, whole and checked.

        Raises:
            InputError: it is damaged, or neither there nor to be had.
        """
        return obtain(file, self.folders(name), progress)
