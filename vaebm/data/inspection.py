"""What a data set is like, before anything is trained on it: `vaebm data inspect NAME|PATH`.

    value range, saturated share    of all pixels; half of most small-image sets is exactly black or white
    suggested likelihood            censored where at least SATURATED of the pixels are, else gaussian
    duplicates                      images equal to an earlier one, pixel for pixel; and how many of the held-out images
                                    lie in the training split, where they flatter a model that memorises
    broken                          files that give no picture, shards whose checksum differs

A set by name, an .npz and a prepared folder are looked at as training sees them; a folder or an archive of files as
they are, whatever their sizes. Memory stays bounded: 16 bytes an image, beside one batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.data import KINDS
from vaebm.data.contact_sheet import SHOWN, contact_sheet
from vaebm.data.folder import FolderSettings, name_of
from vaebm.data.found import NAMED, counted, enumerated
from vaebm.data.image_file import read_picture
from vaebm.data.image_source import ARCHIVES, UnreadableImage, open_source
from vaebm.data.kind import settings_by_name
from vaebm.data.shards import broken_shards, is_prepared, read_index
from vaebm.data.splits import IMAGES_AT_ONCE, SATURATED, DataSet, Split
from vaebm.data.survey import survey
from vaebm.errors import InputError
from vaebm.progress import Progress, silent

Pixels = NDArray[np.uint8]


@dataclass
class Inspection:
    """What was found; `splits`, `sizes`, `formats`, `kinds` and `classes` are counts by name."""

    name: str
    count: int
    splits: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    lowest: float = 0.0
    highest: float = 0.0
    saturated_share: float = 0.0
    duplicates: int = 0
    held_out_in_training: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    likelihood: str = "gaussian"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        rows = [
            ("count", f"{self.count:,}" + _listed(self.splits)),
            ("sizes", _counts(self.sizes)),
            ("formats", _counts(self.formats)),
            ("stored as", _counts(self.kinds)),
            ("classes", f"{len(self.classes):,}: {_counts(self.classes)}" if self.classes else ""),
            ("values", f"{self.lowest:g} to {self.highest:g}, {self.saturated_share:.1%} exactly at an end"),
            ("likelihood", f"{self.likelihood} (vae.likelihood.kind={self.likelihood})"),
            ("duplicates", f"{self.duplicates:,}" + self._held_out()),
            ("broken", self._broken()),
        ]
        return [self.name, *(f"  {name:<12}{said}" for name, said in rows if said)]

    def _held_out(self) -> str:
        return f"; {self.held_out_in_training:,} of the held-out are in the training split" if self.splits else ""

    def _broken(self) -> str:
        named = [f"{name} ({why})" for name, why in sorted(self.broken.items())]
        return f"{len(self.broken):,}: {enumerated(named)}" if named else "none"


def inspect_set(subject: str | Path, picture: Path | None = None, progress: Progress | None = None) -> Inspection:
    """Looks at a data set by name, or at a path; writes a grid of some of its images to `picture`.

    Raises:
        InputError: there is no such set or path, or it cannot be read.
    """
    progress, name = progress or silent(), str(subject)
    path = Path(name).expanduser()
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--out {picture} is no .png: name the picture with that suffix")
    if path.is_dir() and not is_prepared(path):
        return _inspect_files(path, picture, progress)
    if path.is_file() and path.suffix.lower() in ARCHIVES[:2]:
        return _inspect_files(path, picture, progress)
    if path.exists():
        data = FolderSettings(root=str(path)).load(progress)
        found = _inspect_splits(data, picture, progress)
        if path.is_dir():
            found.broken = dict.fromkeys(broken_shards(path, read_index(path)), "checksum differs: prepare it again")
        return found
    if len(path.parts) > 1:
        raise InputError(f"{path} does not exist: check the path, or name a data set")
    return _inspect_splits(settings_by_name(name, KINDS).load(progress), picture, progress)


def _inspect_splits(data: DataSet, picture: Path | None, progress: Progress) -> Inspection:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    splits = {name: split for name, split in parts.items() if split is not None}
    found = Inspection(data.name, sum(map(len, splits.values())), {name: len(one) for name, one in splits.items()})
    if data.class_names is not None and data.train.labels is not None:
        labels = torch.bincount(data.train.labels, minlength=len(data.class_names)).tolist()
        found.classes = dict(zip(data.class_names, labels, strict=False))
    if not data.modality.pictured:
        points = data.train.all()
        found.lowest, found.highest = float(points.min()), float(points.max())
        if picture is not None:
            raise InputError(f"{data.name} has no images to show: leave --out away")
        return found
    seen: dict[str, set[bytes]] = {}
    with progress.task("look at images", found.count, "images") as task:
        for name, split in splits.items():
            hashes = seen[name] = set()
            for rows in torch.arange(len(split)).split(IMAGES_AT_ONCE):
                hashes.update(_hash(image) for image in split.values[rows].numpy())
                task.advance(len(rows))
    found.duplicates = found.count - len(set().union(*seen.values()))
    found.held_out_in_training = len(seen["test"] & seen["train"])
    channels, height, width = data.shape
    found.sizes = {f"{width} x {height}": found.count}
    found.kinds = {"grey" if channels == 1 else "RGB": found.count}
    _values(found, sum((split.counts() for split in splits.values()), torch.zeros(256)), data.train.levels or 255)
    if picture is not None:
        contact_sheet(_some(data.train), picture)
    return found


def _inspect_files(path: Path, picture: Path | None, progress: Progress) -> Inspection:
    """Of files as they are: each is decoded in its own size."""
    source = open_source(path)
    looked = survey(source, progress=progress)
    found = Inspection(name_of(path), 0, broken=looked.skipped)
    counts, hashes, shown = np.zeros(256, np.int64), set(), []
    every = max(1, len(looked.headers) // SHOWN)
    with progress.task("read images", len(looked.headers), "images") as task:
        for number, (name, header) in enumerate(looked.headers.items()):
            task.advance()
            try:
                pixels = read_picture(partial(source.open, name), None).pixels
            except UnreadableImage as reason:
                found.broken[name] = str(reason)
                continue
            found.count += 1
            counts += np.bincount(pixels.reshape(-1), minlength=256)
            hashes.add(_hash(pixels))
            for tally, key in (
                (found.sizes, f"{header.width} x {header.height}"),
                (found.formats, header.format),
                (found.kinds, header.kind),
            ):
                tally[key] = tally.get(key, 0) + 1
            if picture is not None and number % every == 0:
                shown.append(pixels)
    if not found.count:
        raise InputError(f"{path} holds no readable image ({_first(found.broken)}): give a folder of images")
    found.duplicates = found.count - len(hashes)
    _values(found, torch.from_numpy(counts), 255)
    if picture is not None:
        contact_sheet(shown, picture)
    return found


def _values(found: Inspection, counts: torch.Tensor, levels: int) -> None:
    used = counts.nonzero()
    found.lowest, found.highest = float(used[0]), float(used[-1])
    found.saturated_share = float((counts[0] + counts[levels]) / counts.sum())
    found.likelihood = "censored" if found.saturated_share >= SATURATED else "gaussian"


def _some(split: Split) -> Iterator[Pixels]:
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:SHOWN]
    for image in split.batch(rows).x:
        yield ((image + 1.0) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _hash(pixels: NDArray[np.uint8]) -> bytes:
    shape = np.array(pixels.shape, np.int32)
    return hashlib.blake2b(shape.tobytes() + pixels.tobytes(), digest_size=16).digest()


def _counts(tally: Mapping[str, int]) -> str:
    return enumerated([f"{name} ({count:,})" for name, count in Counter(tally).most_common()])


def _listed(splits: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in splits.items())})" if splits else ""


def _first(broken: Mapping[str, str]) -> str:
    listed: Iterable[str] = [f"{name}: {why}" for name, why in list(broken.items())[:NAMED]]
    return ", ".join(listed) if broken else counted(0, "file")
