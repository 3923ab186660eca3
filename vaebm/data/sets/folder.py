"""A user's own images: a folder, a zip or tar of image files, an .npz of arrays, or a folder that was prepared.

Every file of a folder or archive is tried (hidden ones are passed over); what is no image, truncated or too large is
counted and named, not fatal.

    shape       `size` given: the largest part of its proportions from the middle, resized to it
                all alike, at most 4,096 pixels (64 x 64): as they are, square or not
                all alike, larger: 64 x 64, or their own shorter side where that is less
                of several sizes: an error that asks for `size`
    splits      folders at the top that are called train, test, val; else by name (data/collection.py)
    classes     first-level subfolders (of the splits), if every image lies in one of them and there are at least two
    held out    the tenth whose names have the smallest SHA-256; copies of a file stay together
    validation  the next twentieth, or of 100 to 999 images the next tenth; none of fewer
    16-bit grey white is the largest value of 8, 9, ... or 16 bits that the set reaches

A prepared folder (`vaebm data prepare`) is read from disk as training goes on, so it may be larger than the memory.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from vaebm.data.arrays import open_arrays
from vaebm.data.collection import MIN_IMAGES, enough, parts_by_name
from vaebm.data.files.archives import ImageSource, UnreadableImage, open_source
from vaebm.data.files.image import WHITE, Header, Size, read_header, read_peak, read_picture, sides, white_of
from vaebm.data.manifest import Manifest
from vaebm.data.prepared import PROGRESS, is_prepared, prepared_set
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.files import user_path
from vaebm.progress import Progress, silent
from vaebm.wording import counted, enumerated

MIN_SIDE = 8
MAX_UNASKED_SIDE = 64
PARTS = ("train", "test", "validation")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)


class FolderSettings(ImageSettings):
    """A folder of images, subfolders included, or an archive; `size` crops and resizes them."""

    kind: Literal["folder"] = "folder"
    root: str = Field(description="Path of a folder, zip, tar or .npz of images, or of a prepared folder.")
    size: Size | None = Field(
        None, description="Side, or height and width, that images are cropped and resized to; null leaves them alone."
    )

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
            if self.size is not None and data.shape[1:] != sides(self.size):
                raise InputError(
                    f"{root} was prepared with {data.shape[2]} x {data.shape[1]} pixels, not data.size={self.size}: "
                    "leave the size away, or prepare the images again into another folder"
                )
            return data
        if root.suffix.lower() == ".npz":
            return open_arrays(root, self.size).load(self, progress)
        if (root / PROGRESS).is_file():
            raise InputError(f"{root} is only half prepared: run the same `vaebm data prepare` again to go on")
        return folder_manifest(root, self.size, progress).load(self, progress)


def folder_manifest(root: Path, size: Size | None, progress: Progress) -> Manifest:
    """The images of a folder or an archive, cropped and resized to size x size where that is given.

    Raises:
        InputError: there are no images there, or not of one size.
    """
    files = survey(open_source(root), progress)
    enough(root, len(files.headers), files.skipped)
    shape = _common_size(files, size)
    names = list(files.headers)
    parts, classes = _layout(names)
    copies = files.source.copies(names)
    if parts is None:  # copies of an image stay together
        chosen = parts_by_name([name for name in names if name not in copies])
        parts = {name: part for part, some in chosen.items() for name in some}
        parts |= {copy: parts[first] for copy, first in copies.items()}
    else:  # what is held out is not trained on
        held_out = {copies.get(name, name) for name, part in parts.items() if part != "train"}
        for name in names:
            if name not in parts:
                files.skipped[name] = "in no folder of a split"
            elif parts[name] == "train" and copies.get(name, name) in held_out:
                files.skipped[name] = "held out, too"
                del parts[name]
    if not {"train", "test"} <= set(parts.values()):
        raise InputError(f"{root} holds the same few images again and again: give at least {MIN_IMAGES} that differ")
    names = [name for name in names if name in parts]
    class_names = tuple(sorted(set(classes.values())))
    deep = f", 16-bit values from 0 to {files.white:,}" if files.white != WHITE else ""
    again = f", {counted(len(copies), 'duplicate')} among them" if copies else ""
    return Manifest(
        name=name_of(root),
        subject=f"the files of {root}{deep}{again}",
        source=files.source,
        size=shape,
        parts={part: some for part in PARTS if (some := [name for name in names if parts[name] == part])},
        resample="bicubic",
        white=files.white,
        labels={name: class_names.index(classes[name]) for name in names} if class_names else None,
        class_names=class_names or None,
        headers={name: files.headers[name] for name in names},
        skipped=files.skipped,
    )


def _layout(names: Sequence[str]) -> tuple[dict[str, str] | None, dict[str, str]]:
    """The split of each file, where folders at the top are called train and test; and its class, where there are any.

    A single folder at the top says nothing.
    """
    paths = {name: PurePosixPath(name).parts for name in names}
    while len({path[0] for path in paths.values()}) == 1 and all(len(path) > 1 for path in paths.values()):
        paths = {name: path[1:] for name, path in paths.items()}
    parts = {
        name: SPLITS[path[0].lower()] for name, path in paths.items() if len(path) > 1 and path[0].lower() in SPLITS
    }
    split = None
    if {"train"} < set(parts.values()):
        if "test" not in parts.values():
            parts = {name: part.replace("validation", "test") for name, part in parts.items()}
        split, paths = parts, {name: paths[name][1:] for name in parts}
    classes = {name: path[0] for name, path in paths.items() if len(path) > 1}
    return split, classes if len(classes) == len(paths) and len(set(classes.values())) > 1 else {}


def name_of(root: Path) -> str:
    """What a set of the user's own is called."""
    return root.resolve().stem if root.is_file() else root.resolve().name


class Survey(NamedTuple):
    """What the headers of files say, by name, sorted; and why the other files are no images."""

    source: ImageSource
    headers: dict[str, Header]
    skipped: dict[str, str]
    white: int  # in 16-bit grey: what its largest value needs


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
    skipped |= source.passed_over
    peak = 0
    for name in [name for name, header in headers.items() if header.kind == "16-bit grey"]:
        with suppress(UnreadableImage):  # said when it is read
            peak = max(peak, read_peak(partial(source.open, name)))
    return Survey(source, headers, skipped, white_of(peak) if peak else WHITE)


def _common_size(files: Survey, size: Size | None) -> tuple[int, int]:
    """Height and width that all images get. Files that would decide it, but are broken, move to `skipped`."""
    root = files.source.path
    if size is not None:
        if min(sides(size)) < MIN_SIDE:
            raise InputError(f"data.size={size} is too small: give at least {MIN_SIDE}")
        return sides(size)
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
