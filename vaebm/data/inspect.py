"""What a data set is like, before anything is trained on it: `vaebm data inspect NAME|PATH`.

    value range, saturated fraction    of all pixels; half of most small-image sets is exactly black or white
    suggested likelihood            censored where at least SATURATED of the pixels are, else gaussian
    duplicates                      images equal to an earlier one, pixel for pixel; and how many of the held-out images
                                    lie in the training split, where they flatter a model that memorises
    broken                          files that give no picture, prepared arrays whose checksum differs

A set by name, an .npz and a prepared folder are looked at as training sees them; a folder or an archive of files as
they are, whatever their sizes. Memory stays bounded: a hash for each image, beside one batch.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vaebm.data.files.archives import ARCHIVES, UnreadableImage, open_source
from vaebm.data.files.image import Header, read_picture
from vaebm.data.files.table import is_table, read_table
from vaebm.data.modality import IMAGES
from vaebm.data.prepared import broken_files, is_prepared, read_index
from vaebm.data.sets import KINDS
from vaebm.data.sets.folder import FolderSettings, name_of, survey
from vaebm.data.sets.table import TableSettings, described
from vaebm.data.splits import IMAGES_AT_ONCE, SATURATED, DataSet
from vaebm.errors import InputError
from vaebm.files import user_path, write_atomically
from vaebm.progress import Progress, silent
from vaebm.wording import counted, did_you_mean, enumerated

COLUMNS, ROWS = 10, 6
MAX_SHOWN = COLUMNS * ROWS
TILE, GAP, PAPER = 96, 4, (255, 255, 255)
USERS_OWN = {"folder", "given", "table"}  # kinds that are no data set by themselves
Stored = tuple[str, NDArray[np.uint8], Header]
"""A split, one of its images (H, W, C), and what is known of it."""


@dataclass
class Summary:
    """What a set is like; `splits`, `sizes`, `formats`, `kinds` and `classes` are counts by name.

    `columns` says of each column of a table its kind, its values, and how many are missing.
    """

    name: str
    count: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    lowest: float = 0.0
    highest: float = 0.0
    saturated_fraction: float = 0.0
    duplicates: int = 0
    held_out_in_training: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    likelihood: str = "gaussian"

    def lines(self) -> list[str]:
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        held_out = f"; {self.held_out_in_training:,} of the held-out are in the training split" if splits else ""
        broken = [f"{name} ({why})" for name, why in sorted(self.broken.items())]
        rows = [
            ("count", f"{self.count:,}" + (f" ({splits})" if splits else "")),
            ("sizes", _counts(self.sizes)),
            ("formats", _counts(self.formats)),
            ("stored as", _counts(self.kinds)),
            ("classes", f"{len(self.classes):,}: {_counts(self.classes)}" if self.classes else ""),
            ("values", f"{self.lowest:g} to {self.highest:g}, {self.saturated_fraction:.1%} exactly at an end"),
            ("likelihood", f"{self.likelihood} (vae.likelihood.kind={self.likelihood})"),
            ("duplicates", f"{self.duplicates:,}{held_out}"),
            ("broken", f"{len(broken):,}: {enumerated(broken)}" if broken else "none"),
        ]
        if self.columns:
            rows = [*rows[:1], *self.columns.items()]
        longest = max(12, *(len(name) + 2 for name, _ in rows))
        return [self.name, *(f"  {name:<{longest}}{said}" for name, said in rows if said)]


def inspect_set(subject: str | Path, picture: Path | None = None, progress: Progress | None = None) -> Summary:
    """Looks at a data set by name, or at a path; writes a grid of some of its images to `picture`.

    Raises:
        InputError: there is no such set or path, or it cannot be read.
    """
    progress, name = progress or silent(), str(subject)
    path = user_path(name)
    picture = None if picture is None else user_path(picture)
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--out {picture} is no .png: name the picture with that suffix")
    if (path.is_dir() and not is_prepared(path)) or (path.is_file() and path.suffix.lower() in ARCHIVES[:2]):
        return _of_files(path, picture, progress)
    if is_table(path):
        if picture is not None:
            raise InputError(f"{path} is a table and has no images to show: leave --out away")
        data = TableSettings(root=str(path)).load(progress)
        summary = _of_splits(data, None, progress)
        assert data.columns is not None
        summary.columns = described(read_table(path), data.columns)
        return summary
    if path.exists():
        summary = _of_splits(FolderSettings(root=str(path)).load(progress), picture, progress)
        if path.is_dir():
            summary.broken = dict.fromkeys(broken_files(path, read_index(path)), "checksum differs: prepare it again")
        return summary
    if len(path.parts) > 1:
        raise InputError(f"{path} does not exist: check the path, or name a data set")
    names = sorted(set(KINDS) - USERS_OWN)
    if name not in names:
        raise InputError(f"there is no data set or path {name!r}: {did_you_mean(name, names)}")
    return _of_splits(KINDS[name].model_validate({}).load(progress), picture, progress)


def _of_splits(data: DataSet, picture: Path | None, progress: Progress) -> Summary:
    summary = Summary(data.name, splits={name: len(split) for name, split in data.splits.items()})
    if data.class_names is not None and data.train.labels is not None:
        labels = torch.bincount(data.train.labels, minlength=len(data.class_names)).tolist()
        summary.classes = dict(zip(data.class_names, labels, strict=False))
    count = sum(summary.splits.values())
    if data.modality is IMAGES:
        return _of_images(summary, _stored(data), count, data.train.levels or 255, picture, progress)
    if picture is not None:
        raise InputError(f"{data.name} has no images to show: leave --out away")
    points = data.train.all()
    summary.lowest, summary.highest = float(points.min()), float(points.max())
    summary.count = count
    return summary


def _stored(data: DataSet) -> Iterator[Stored]:
    """All images of a set, a batch in memory at a time."""
    channels, height, width = data.shape
    header = Header("", height, width, "grey" if channels == 1 else "RGB")
    for name, split in data.splits.items():
        for rows in torch.arange(len(split)).split(IMAGES_AT_ONCE):
            for image in split.values[rows].permute(0, 2, 3, 1).numpy():
                yield name, image, header


def _of_files(path: Path, picture: Path | None, progress: Progress) -> Summary:
    """Of files as they are: each is decoded in its own size."""
    files = survey(open_source(path), progress)
    summary = Summary(name_of(path), broken=files.skipped)

    def decoded() -> Iterator[Stored]:
        for name, header in files.headers.items():
            try:
                yield "", read_picture(partial(files.source.open, name), None, white=files.white).pixels, header
            except UnreadableImage as reason:
                summary.broken[name] = str(reason)

    _of_images(summary, decoded(), len(files.headers), 255, picture, progress)
    if not summary.count:
        broken = enumerated([f"{name}: {why}" for name, why in summary.broken.items()]) or counted(0, "file")
        raise InputError(f"{path} holds no readable image ({broken}): give a folder of images")
    return summary


def _of_images(
    summary: Summary, images: Iterable[Stored], total: int, levels: int, picture: Path | None, progress: Progress
) -> Summary:
    """Takes what images are like into a summary; `levels` is the stored value of white."""
    counts, shown = np.zeros(256, np.int64), []
    seen: dict[str, set[bytes]] = {}
    with progress.task("look at images", total, "images") as task:
        for part, pixels, header in images:
            task.advance()
            if picture is not None and summary.count % max(1, total // MAX_SHOWN) == 0:
                shown.append(np.round(pixels * (255 / levels)).astype(np.uint8))
            summary.count += 1
            counts += np.bincount(pixels.reshape(-1), minlength=256)
            shape = np.array(pixels.shape, np.int32).tobytes()
            digest = hashlib.blake2b(shape + pixels.tobytes(), digest_size=16).digest()
            seen.setdefault(part, set()).add(digest)
            size = f"{header.width} x {header.height}"
            for tally, key in ((summary.sizes, size), (summary.kinds, header.kind), (summary.formats, header.format)):
                tally[key] = tally.get(key, 0) + 1
    summary.formats.pop("", None)
    if summary.count:
        summary.duplicates = summary.count - len(set().union(*seen.values()))
        summary.held_out_in_training = len(seen.get("test", set()) & seen.get("train", set()))
        used = counts.nonzero()[0]
        summary.lowest, summary.highest = float(used[0]), float(used[-1])
        summary.saturated_fraction = float((counts[0] + counts[levels]) / counts.sum())
        summary.likelihood = "censored" if summary.saturated_fraction >= SATURATED else "gaussian"
        if picture is not None:
            _write_grid(shown[:MAX_SHOWN], picture)
    return summary


def _counts(tally: Mapping[str, int]) -> str:
    return enumerated([f"{name} ({count:,})" for name, count in Counter(tally).most_common()])


def _write_grid(images: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Writes images (H, W, 1 or 3) of any sizes, MAX_SHOWN at most, as a PNG of tiles."""
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, rows * (TILE + GAP) + GAP), PAPER)
    for number, pixels in enumerate(images):
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        factor = max(1, TILE // max(image.size))  # a whole one, so that the pixels of small images can be seen
        tile = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        tile.thumbnail((TILE, TILE))
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (TILE + GAP), GAP + row * (TILE + GAP)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: sheet.save(file, format="png"))
