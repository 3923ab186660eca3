"""The sentence that says what was found in a folder of images, and the words that it shares with error messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaebm.data.image_file import Header
from vaebm.data.splits import Split, saturated_share

NAMED = 3  # files, sizes or classes that a sentence names before it only counts


def found_in_folder(
    root: Path,
    headers: Sequence[Header],
    train: Split,
    test: Split,
    classes: Sequence[str] | None,
    transparent: int,
    skipped: Mapping[str, str],
) -> str:
    """One sentence: how many images, of which formats and sizes, what became of them, what was skipped and why.

    Args:
        root: the folder.
        headers: of the images that were read.
        train: the training split.
        test: the held-out split.
        classes: names of the classes, if the subfolders are classes.
        transparent: how many images had transparent pixels.
        skipped: file name to reason.
    """
    channels, height, width = train.values.shape[1:]
    formats = Counter(header.format for header in headers).most_common()
    sizes = Counter((header.width, header.height) for header in headers)
    (smallest_width, smallest_height), (largest_width, largest_height) = min(sizes), max(sizes)
    size = f"{smallest_width} x {smallest_height} pixels"
    if len(sizes) > 1:
        size = (
            f"{len(sizes)} sizes from {smallest_width} x {smallest_height} to {largest_width} x {largest_height} pixels"
        )
    if set(sizes) != {(width, height)}:
        size += f", centre-cropped and resized to {width} x {height}"
    low, high = train.values.min().item(), train.values.max().item()
    parts = [
        f"{counted(len(headers), 'image')} in {root} ({', '.join(f'{count:,} {name}' for name, count in formats)})",
        f"{size}, {'grey' if channels == 1 else 'RGB'}",
        f"{len(train):,} for training and {len(test):,} held out",
        f"pixel values {low} to {high}, {saturated_share(train):.0%} of them exactly black or white",
    ]
    if classes is not None:
        parts.append(f"{len(classes)} classes from subfolders: {enumerated(classes)}")
    if transparent:
        parts.append(f"transparency of {counted(transparent, 'image')} put on white")
    parts.append(said_of_skipped(skipped) if skipped else "nothing was skipped")
    return "; ".join(parts) + "."


def said_of_skipped(skipped: Mapping[str, str]) -> str:
    """How many files were skipped, the first three of them by name with the reason."""
    named = [f"{name} ({reason})" for name, reason in sorted(skipped.items())]
    return f"{counted(len(skipped), 'file')} skipped: {enumerated(named)}"


def enumerated(words: Sequence[str]) -> str:
    """The first three, and how many more."""
    rest = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def counted(count: int, noun: str) -> str:
    """The count with its noun in the right number."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
