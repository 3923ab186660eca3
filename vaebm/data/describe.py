"""The sentence that describes a set of images, and the words that it shares with error messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaebm.data.files.image import Header
from vaebm.data.splits import Split, saturated_share
from vaebm.wording import counted, enumerated

BECAME = {
    "16-bit grey": "of 16-bit grey brought to 8 bits",
    "with a palette": "with a palette looked up",
    "CMYK": "in CMYK turned into RGB",
}
MAX_NAMED = 3  # files that a sentence names before it counts reasons
NOTHING_SKIPPED = "nothing was skipped"


def describe_files(
    root: Path,
    headers: Sequence[Header],
    splits: Mapping[str, Split],
    class_names: Sequence[str] | None,
    transparent: int,
    skipped: Mapping[str, str],
) -> str:
    """One sentence on image files: how many, of which formats and sizes, how they were changed, which were skipped.

    Args:
        root: where the files lie.
        headers: of the images that were read.
        splits: "train" and "test".
        class_names: of the subfolders, where they are classes.
        transparent: how many images had transparent pixels.
        skipped: file name to reason.
    """
    train = splits["train"]
    channels, height, width = train.values.shape[1:]
    formats = Counter(header.format for header in headers).most_common()
    sizes = Counter((header.width, header.height) for header in headers)
    smallest, largest = (f"{w} x {h}" for w, h in (min(sizes), max(sizes)))
    size = f"{len(sizes):,} sizes from {smallest} to {largest} pixels" if len(sizes) > 1 else f"{smallest} pixels"
    if set(sizes) != {(width, height)}:
        size += f", centre-cropped and resized to {width} x {height}"
    parts = [
        f"{counted(len(headers), 'image')} in {root} ({', '.join(f'{count:,} {name}' for name, count in formats)})",
        f"{size}, {'grey' if channels == 1 else 'RGB'}",
        f"{len(train):,} for training and {len(splits['test']):,} held out",
        describe_values(train),
    ]
    if class_names is not None:
        parts.append(f"{len(class_names)} classes from subfolders: {enumerated(class_names)}")
    kinds = Counter(header.kind for header in headers)
    parts += [f"{counted(kinds[kind], 'image')} {became}" for kind, became in BECAME.items() if kinds[kind]]
    if kinds["grey"] and channels > 1:
        parts.append(f"{counted(kinds['grey'], 'grey image')} repeated in three colours")
    if transparent:
        parts.append(f"transparency of {counted(transparent, 'image')} put on white")
    return "; ".join([*parts, describe_skipped(skipped)]) + "."


def describe_set(
    subject: str, splits: Mapping[str, Split], class_names: Sequence[str] | None, aside: str = NOTHING_SKIPPED
) -> str:
    """One sentence on a published set: how many images of which size in which splits, and their values.

    Args:
        subject: what the images are: "MNIST's handwritten digits".
        splits: by name; "train" and "test" at least.
        class_names: of its classes, if it has any.
        aside: what else there is to say, of skipped files say.
    """
    train = splits["train"]
    channels, height, width = train.values.shape[1:]
    total = sum(len(split) for split in splits.values())
    validation = f"{len(splits['validation']):,} for validation, " if "validation" in splits else ""
    parts = [
        f"{total:,} images of {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}: {subject}",
        f"{len(train):,} for training, {validation}{len(splits['test']):,} held out",
        describe_values(train),
    ]
    if class_names is not None:
        parts.append(f"{len(class_names):,} classes: {enumerated(class_names)}")
    return "; ".join([*parts, aside]) + "."


def describe_values(split: Split) -> str:
    """The range of the stored values, and how many are at its ends."""
    used = split.counts().nonzero()
    return (
        f"pixel values {int(used[0])} to {int(used[-1])}, {saturated_share(split):.0%} of them exactly black or white"
    )


def describe_skipped(skipped: Mapping[str, str]) -> str:
    """How many files were skipped, for which reasons, and the first of them by name."""
    if not skipped:
        return NOTHING_SKIPPED
    named = [f"{name} ({reason})" for name, reason in sorted(skipped.items())]
    reasons = Counter(skipped.values()).most_common() if len(skipped) > MAX_NAMED else []
    listed = f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons)})" if reasons else ""
    return f"{counted(len(skipped), 'file')} skipped{listed}: {enumerated(named, MAX_NAMED)}"
