"""The sentence that describes a set of images, and the words that it shares with error messages."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from vaebm.data.files.image import Header
from vaebm.data.splits import Split, saturated_fraction
from vaebm.wording import counted, enumerated

BECAME = {
    "16-bit grey": "of 16-bit grey brought to 8 bits",
    "with a palette": "with a palette looked up",
    "CMYK": "in CMYK turned into RGB",
}
MAX_NAMED = 3  # files that a sentence names before it counts reasons


def describe(
    subject: str,
    splits: Mapping[str, Split],
    class_names: Sequence[str] | None = None,
    skipped: Mapping[str, str] | None = None,
    headers: Collection[Header] = (),
    transparent: int = 0,
) -> str:
    """One sentence: how many images of which size in which splits, their values, how files were changed or skipped.

    Args:
        subject: what the images are: "MNIST's handwritten digits".
        splits: by name; "train" and "test" at least.
        class_names: of its classes.
        skipped: why files gave no image, by name.
        headers: of the files that the images were read from, where these are a user's own.
        transparent: how many images had transparent pixels.
    """
    train = splits["train"]
    channels, height, width = train.values.shape[1:]
    total = sum(map(len, splits.values()))
    validation = f"{len(splits['validation']):,} for validation, " if "validation" in splits else ""
    parts = [
        f"{counted(total, 'image')} of {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}: {subject}",
        f"{len(train):,} for training, {validation}{len(splits['test']):,} held out",
        describe_values(train),
    ]
    if class_names is not None:
        parts.append(f"{counted(len(class_names), 'class')}: {enumerated(class_names)}")
    if headers:
        formats = Counter(header.format for header in headers).most_common()
        parts[0] += f" ({', '.join(f'{count:,} {name}' for name, count in formats)})"
        sizes = Counter((header.width, header.height) for header in headers)
        if set(sizes) != {(width, height)}:
            smallest, largest = (f"{w} x {h}" for w, h in (min(sizes), max(sizes)))
            several = f"{len(sizes):,} sizes from {smallest} to {largest}" if len(sizes) > 1 else smallest
            parts.append(f"centre-cropped and resized from {several}")
        kinds = Counter(header.kind for header in headers)
        parts += [f"{counted(kinds[kind], 'image')} {became}" for kind, became in BECAME.items() if kinds[kind]]
        if kinds["grey"] and channels > 1:
            parts.append(f"{counted(kinds['grey'], 'grey image')} repeated in three colours")
    if transparent:
        parts.append(f"transparency of {counted(transparent, 'image')} put on white")
    return "; ".join([*parts, describe_skipped(skipped or {})]) + "."


def describe_values(split: Split) -> str:
    """The range of the stored values, and how many are at its ends."""
    used = split.counts().nonzero()
    ends = f"{saturated_fraction(split):.0%} of them exactly black or white"
    return f"pixel values {int(used[0])} to {int(used[-1])}, {ends}"


def describe_skipped(skipped: Mapping[str, str]) -> str:
    """How many files were skipped, for which reasons, and the first of them by name."""
    if not skipped:
        return "nothing was skipped"
    named = [f"{name} ({reason})" for name, reason in sorted(skipped.items())]
    reasons = Counter(skipped.values()).most_common() if len(skipped) > MAX_NAMED else []
    listed = f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons)})" if reasons else ""
    return f"{counted(len(skipped), 'file')} skipped{listed}: {enumerated(named, MAX_NAMED)}"
