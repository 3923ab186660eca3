"""What a data set is like, before anything is trained on it: `vaebm data inspect NAME|PATH`.

    value range, saturated share    of all pixels; half of most small-image sets is exactly black or white
    suggested likelihood            censored where at least SATURATED of the pixels are, else gaussian
    duplicates                      images equal to an earlier one, pixel for pixel; and how many of the held-out images
                                    lie in the training split, where they flatter a model that memorises
    broken                          files that give no picture, prepared arrays whose checksum differs

A set by name, an .npz and a prepared folder are looked at as training sees them; a folder or an archive of files as
they are, whatever their sizes. Memory stays bounded: 16 bytes an image, beside one batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.data.contact_sheet import MAX_SHOWN, contact_sheet
from vaebm.data.files.archives import ARCHIVES, UnreadableImage, open_source
from vaebm.data.files.image import read_picture
from vaebm.data.modality import IMAGES
from vaebm.data.prepared import broken_files, is_prepared, read_index
from vaebm.data.sets import KINDS
from vaebm.data.sets.folder import FolderSettings, name_of, survey
from vaebm.data.splits import IMAGES_AT_ONCE, SATURATED, DataSet, Split
from vaebm.errors import InputError
from vaebm.progress import Progress, silent
from vaebm.wording import counted, did_you_mean, enumerated

USERS_OWN = "folder"


@dataclass
class Summary:
    """What a set is like; `splits`, `sizes`, `formats`, `kinds` and `classes` are counts by name."""

    name: str
    count: int = 0
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
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        held_out = f"; {self.held_out_in_training:,} of the held-out are in the training split" if splits else ""
        broken = [f"{name} ({why})" for name, why in sorted(self.broken.items())]
        rows = [
            ("count", f"{self.count:,}" + (f" ({splits})" if splits else "")),
            ("sizes", _counts(self.sizes)),
            ("formats", _counts(self.formats)),
            ("stored as", _counts(self.kinds)),
            ("classes", f"{len(self.classes):,}: {_counts(self.classes)}" if self.classes else ""),
            ("values", f"{self.lowest:g} to {self.highest:g}, {self.saturated_share:.1%} exactly at an end"),
            ("likelihood", f"{self.likelihood} (vae.likelihood.kind={self.likelihood})"),
            ("duplicates", f"{self.duplicates:,}{held_out}"),
            ("broken", f"{len(broken):,}: {enumerated(broken)}" if broken else "none"),
        ]
        return [self.name, *(f"  {name:<12}{said}" for name, said in rows if said)]

    def note_values(self, counts: torch.Tensor, levels: int) -> None:
        """Takes how often each of 256 values is stored, `levels` being white."""
        used = counts.nonzero()
        self.lowest, self.highest = float(used[0]), float(used[-1])
        self.saturated_share = float((counts[0] + counts[levels]) / counts.sum())
        self.likelihood = "censored" if self.saturated_share >= SATURATED else "gaussian"


def inspect_set(subject: str | Path, picture: Path | None = None, progress: Progress | None = None) -> Summary:
    """Looks at a data set by name, or at a path; writes a grid of some of its images to `picture`.

    Raises:
        InputError: there is no such set or path, or it cannot be read.
    """
    progress, name = progress or silent(), str(subject)
    path = Path(name).expanduser()
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--out {picture} is no .png: name the picture with that suffix")
    if (path.is_dir() and not is_prepared(path)) or (path.is_file() and path.suffix.lower() in ARCHIVES[:2]):
        return _of_files(path, picture, progress)
    if path.exists():
        summary = _of_splits(FolderSettings(root=str(path)).load(progress), picture, progress)
        if path.is_dir():
            summary.broken = dict.fromkeys(broken_files(path, read_index(path)), "checksum differs: prepare it again")
        return summary
    if len(path.parts) > 1:
        raise InputError(f"{path} does not exist: check the path, or name a data set")
    names = sorted(set(KINDS) - {USERS_OWN})
    if name not in names:
        raise InputError(f"there is no data set or path {name!r}: {did_you_mean(name, names)}")
    return _of_splits(KINDS[name].model_validate({}).load(progress), picture, progress)


def _of_splits(data: DataSet, picture: Path | None, progress: Progress) -> Summary:
    summary = Summary(data.name, sum(map(len, data.splits.values())))
    summary.splits = {name: len(split) for name, split in data.splits.items()}
    if data.class_names is not None and data.train.labels is not None:
        labels = torch.bincount(data.train.labels, minlength=len(data.class_names)).tolist()
        summary.classes = dict(zip(data.class_names, labels, strict=False))
    if data.modality is not IMAGES:
        points = data.train.all()
        summary.lowest, summary.highest = float(points.min()), float(points.max())
        if picture is not None:
            raise InputError(f"{data.name} has no images to show: leave --out away")
        return summary
    seen: dict[str, set[bytes]] = {}
    with progress.task("look at images", summary.count, "images") as task:
        for name, split in data.splits.items():
            seen[name] = set()
            for rows in torch.arange(len(split)).split(IMAGES_AT_ONCE):
                seen[name].update(_hash(image) for image in split.values[rows].numpy())
                task.advance(len(rows))
    summary.duplicates = summary.count - len(set().union(*seen.values()))
    summary.held_out_in_training = len(seen["test"] & seen["train"])
    channels, height, width = data.shape
    summary.sizes = {f"{width} x {height}": summary.count}
    summary.kinds = {"grey" if channels == 1 else "RGB": summary.count}
    summary.note_values(
        torch.stack([split.counts() for split in data.splits.values()]).sum(0), data.train.levels or 255
    )
    if picture is not None:
        contact_sheet(_some(data.train), picture)
    return summary


def _of_files(path: Path, picture: Path | None, progress: Progress) -> Summary:
    """Of files as they are: each is decoded in its own size."""
    files = survey(open_source(path), progress)
    summary = Summary(name_of(path), broken=files.skipped)
    counts, hashes, shown = np.zeros(256, np.int64), set(), []
    every = max(1, len(files.headers) // MAX_SHOWN)
    tallies: dict[str, Counter[str]] = {"sizes": Counter(), "formats": Counter(), "kinds": Counter()}
    with progress.task("read images", len(files.headers), "images") as task:
        for number, (name, header) in enumerate(files.headers.items()):
            task.advance()
            try:
                pixels = read_picture(partial(files.source.open, name), None).pixels
            except UnreadableImage as reason:
                summary.broken[name] = str(reason)
                continue
            summary.count += 1
            counts += np.bincount(pixels.reshape(-1), minlength=256)
            hashes.add(_hash(pixels))
            tallies["sizes"][f"{header.width} x {header.height}"] += 1
            tallies["formats"][header.format] += 1
            tallies["kinds"][header.kind] += 1
            if picture is not None and number % every == 0:
                shown.append(pixels)
    if not summary.count:
        broken = enumerated([f"{name}: {why}" for name, why in summary.broken.items()]) or counted(0, "file")
        raise InputError(f"{path} holds no readable image ({broken}): give a folder of images")
    summary.sizes, summary.formats, summary.kinds = (dict(tally) for tally in tallies.values())
    summary.duplicates = summary.count - len(hashes)
    summary.note_values(torch.from_numpy(counts), 255)
    if picture is not None:
        contact_sheet(shown, picture)
    return summary


def _some(split: Split) -> Iterator[NDArray[np.uint8]]:
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:MAX_SHOWN]
    yield from IMAGES.arrays(split.batch(rows).x)["images"]


def _hash(pixels: NDArray[np.uint8]) -> bytes:
    shape = np.array(pixels.shape, np.int32)
    return hashlib.blake2b(shape.tobytes() + pixels.tobytes(), digest_size=16).digest()


def _counts(tally: Mapping[str, int]) -> str:
    return enumerated([f"{name} ({count:,})" for name, count in Counter(tally).most_common()])
