"""The sentence that says what was found in a set of images, and the words that it shares with error messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaebm.data.image_file import Header
from vaebm.data.splits import Split, saturated_share

BECAME = {
    "16-bit grey": ("image", "of 16-bit grey brought to 8 bits"),
    "with a palette": ("image", "with a palette looked up"),
    "CMYK": ("image", "in CMYK turned into RGB"),
}
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
        smallest, largest = f"{smallest_width} x {smallest_height}", f"{largest_width} x {largest_height}"
        size = f"{len(sizes):,} sizes from {smallest} to {largest} pixels"
    if set(sizes) != {(width, height)}:
        size += f", centre-cropped and resized to {width} x {height}"
    parts = [
        f"{counted(len(headers), 'image')} in {root} ({', '.join(f'{count:,} {name}' for name, count in formats)})",
        f"{size}, {'grey' if channels == 1 else 'RGB'}",
        f"{len(train):,} for training and {len(test):,} held out",
        said_of_values(train),
    ]
    if classes is not None:
        parts.append(f"{len(classes)} classes from subfolders: {enumerated(classes)}")
    kinds = Counter(header.kind for header in headers)
    parts += [f"{counted(kinds[kind], noun)} {became}" for kind, (noun, became) in BECAME.items() if kinds[kind]]
    if kinds["grey"] and channels > 1:
        parts.append(f"{counted(kinds['grey'], 'grey image')} repeated in three colours")
    if transparent:
        parts.append(f"transparency of {counted(transparent, 'image')} put on white")
    parts.append(said_of_skipped(skipped) if skipped else "nothing was skipped")
    return "; ".join(parts) + "."


def found_in_files(
    what: str, parts: Mapping[str, Split], classes: Sequence[str] | None, aside: str = "nothing was skipped"
) -> str:
    """One sentence on a published set: how many images of which size in which splits, and their values.

    Args:
        what: the set, as the subject of the sentence: "MNIST's handwritten digits".
        parts: its splits by name; "train" and "test" at least.
        classes: names of its classes, if it has any.
        aside: what else there is to say, of skipped files say.
    """
    train = parts["train"]
    channels, height, width = train.values.shape[1:]
    total = sum(len(split) for split in parts.values())
    validation = f"{len(parts['validation']):,} for validation, " if "validation" in parts else ""
    said = [
        f"{total:,} images of {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}: {what}",
        f"{len(train):,} for training, {validation}{len(parts['test']):,} held out",
        said_of_values(train),
    ]
    if classes is not None:
        said.append(f"{len(classes):,} classes: {enumerated(classes)}")
    return "; ".join([*said, aside]) + "."


def said_of_values(split: Split) -> str:
    """The range of the stored values, and how many are at its ends."""
    used = split.counts().nonzero()
    return (
        f"pixel values {int(used[0])} to {int(used[-1])}, {saturated_share(split):.0%} of them exactly black or white"
    )


def said_of_skipped(skipped: Mapping[str, str]) -> str:
    """How many files were skipped, for which reasons, and the first three of them by name."""
    named = [f"{name} ({reason})" for name, reason in sorted(skipped.items())]
    reasons = Counter(skipped.values()).most_common() if len(skipped) > NAMED else []
    listed = f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons)})" if reasons else ""
    return f"{counted(len(skipped), 'file')} skipped{listed}: {enumerated(named)}"


def enumerated(words: Sequence[str]) -> str:
    """The first three, and how many more."""
    rest = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def counted(count: int, noun: str) -> str:
    """The count with its noun in the right number."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
