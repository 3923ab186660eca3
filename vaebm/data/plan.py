"""A plan: which image files become which images of which split, before any of them is read.

It is what `data/prepare.py` carries out. Its fingerprint tells one plan from another, so that a preparation that was
interrupted is only gone on with by the plan that it was begun with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vaebm.data.image_file import Filter, Header
from vaebm.data.image_source import ImageSource


@dataclass(frozen=True)
class Plan:
    """Image files by split.

    Args:
        name: of the set.
        what: the subject of the sentence on it.
        source: where the files lie.
        size: height and width that the images get.
        parts: names of files by split, in order; "train" and "test" at least.
        crop: side of the central square that is cut out first; None for the largest rectangle of that shape.
        resample: how images are resized.
        labels: class by name of file.
        class_names: what the labels stand for.
        headers: what is known of the files, if they were surveyed.
        skipped: files that are no images, with the reason.
    """

    name: str
    what: str
    source: ImageSource
    size: tuple[int, int]
    parts: Mapping[str, Sequence[str]]
    crop: int | None = None
    resample: Filter = "bicubic"
    labels: Mapping[str, int] | None = None
    class_names: tuple[str, ...] | None = None
    headers: Mapping[str, Header] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Of all that decides the shards."""
        what = [self.name, str(self.source.path.resolve()), self.size, self.crop, self.resample]
        files = {part: list(names) for part, names in self.parts.items()}
        labels = None if self.labels is None else dict(self.labels)
        return hashlib.sha256(json.dumps([what, files, labels], sort_keys=True).encode()).hexdigest()
