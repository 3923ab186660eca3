"""A user's own images: a folder, a zip or tar of image files, an .npz of arrays, or a folder that was prepared.

Every file of a folder or archive is tried (hidden ones are passed over); what is no image, truncated or too large is
counted and named, not fatal.

    shape       `size` given: the largest central square, resized to size x size
                all alike, at most 4,096 pixels (64 x 64): as they are, square or not
                all alike, larger: 64 x 64, or their own shorter side where that is less
                of several sizes: an error that asks for `size`
    classes     first-level subfolders, if every image lies in one of them and there are at least two
    held out    the tenth whose names have the smallest SHA-256
    validation  the next twentieth, if there are 1,000 images or more

A prepared folder (`vaebm data prepare`) is read from disk as training goes on, so it may be larger than the memory.
"""

from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from vaebm.data.arrays import open_arrays
from vaebm.data.collection import enough, parts_by_name
from vaebm.data.files.archives import ImageSource, UnreadableImage, open_source
from vaebm.data.files.image import Header, read_header, read_picture
from vaebm.data.manifest import Manifest
from vaebm.data.prepared import PROGRESS, is_prepared, prepared_set
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.files import user_path
from vaebm.progress import Progress, silent
from vaebm.wording import enumerated

MIN_SIDE = 8
MAX_UNASKED_SIDE = 64


class FolderSettings(ImageSettings):
    """A folder of images, subfolders included, or an archive; `size` crops and resizes them to size x size."""

    kind: Literal["folder"] = "folder"
    root: str = Field(description="Path of a folder, zip, tar or .npz of images, or of a prepared folder.")
    size: int | None = Field(None, description="Side that images are cropped and resized to; null leaves them alone.")

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str) -> str:
        """A run is read from wherever one is."""
        return str(user_path(root).absolute())

    def load(self, progress: Progress | None = None) -> DataSet:
        """Reads the images; shape (1 or 3, H, W)."""
        root, progress = user_path(self.root), progress or silent()
        if is_prepared(root):
            data = prepared_set(root, self)
            if self.size not in (None, data.shape[2]):
                raise InputError(
                    f"{root} was prepared with {data.shape[2]} x {data.shape[1]} pixels, not data.size={self.size}: "
                    "leave the size away, or prepare the images again into another folder"
                )
            return data
        if root.suffix == ".npz":
            return open_arrays(root).load(self, progress)
        if (root / PROGRESS).is_file():
            raise InputError(f"{root} is only half prepared: run the same `vaebm data prepare` again to go on")
        return folder_manifest(root, self.size, progress).load(self, progress)


def folder_manifest(root: Path, size: int | None, progress: Progress) -> Manifest:
    """The images of a folder or an archive, cropped and resized to size x size where that is given.

    Raises:
        InputError: there are no images there, or not of one size.
    """
    files = survey(open_source(root), progress)
    enough(root, len(files.headers), files.skipped)
    shape = _common_size(files, size)
    names = list(files.headers)
    top = {name: PurePosixPath(name).parts[0] for name in names}
    folders = tuple(sorted(set(top.values())))
    classes = folders if len(folders) > 1 and not set(folders) & set(names) else None
    return Manifest(
        name=name_of(root),
        subject=f"the files of {root}",
        source=files.source,
        size=shape,
        parts={part: [name for name in names if name in chosen] for part, chosen in parts_by_name(names).items()},
        resample="bicubic",
        labels=None if classes is None else {name: classes.index(folder) for name, folder in top.items()},
        class_names=classes,
        headers=files.headers,
        skipped=files.skipped,
    )


def name_of(root: Path) -> str:
    """What a set of the user's own is called."""
    return root.resolve().stem if root.is_file() else root.resolve().name


class Survey(NamedTuple):
    """What the headers of files say, by name, sorted; and why the other files are no images."""

    source: ImageSource
    headers: dict[str, Header]
    skipped: dict[str, str]


def survey(source: ImageSource, progress: Progress) -> Survey:
    """Reads the header of every file, before any pixel is decoded."""
    headers, skipped = {}, {}
    names = source.names()
    with progress.task("look at files", len(names), "files") as task:
        for name in names:
            try:
                headers[name] = read_header(partial(source.open, name))
            except UnreadableImage as reason:
                skipped[name] = str(reason)
            task.advance()
    return Survey(source, headers, skipped)


def _common_size(files: Survey, size: int | None) -> tuple[int, int]:
    """Height and width that all images get. Files that would decide it, but are broken, move to `skipped`."""
    root = files.source.path
    if size is not None:
        if size < MIN_SIDE:
            raise InputError(f"data.size={size} is too small: give at least {MIN_SIDE}")
        return size, size
    sizes = Counter((header.height, header.width) for header in files.headers.values())
    (common, _), *_ = sizes.most_common(1)
    for name in [name for name, header in files.headers.items() if (header.height, header.width) != common]:
        try:
            read_picture(partial(files.source.open, name), common)
        except UnreadableImage as reason:
            files.skipped[name] = str(reason)
            broken = files.headers.pop(name)
            sizes[broken.height, broken.width] -= 1
            continue
        listed = [f"{width} x {height} ({count:,})" for (height, width), count in (+sizes).most_common()]
        raise InputError(
            f"{root} holds images of {len(listed)} sizes (width x height), {enumerated(listed)}: "
            "set data.size=32 to centre-crop and resize"
        )
    if min(common) < MIN_SIDE:
        raise InputError(
            f"the images in {root} are {common[1]} x {common[0]} pixels, below {MIN_SIDE} x {MIN_SIDE}: "
            "set data.size=32 to enlarge them"
        )
    side = min(MAX_UNASKED_SIDE, *common)
    return common if common[0] * common[1] <= MAX_UNASKED_SIDE**2 else (side, side)
