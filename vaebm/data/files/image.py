"""One image file: what its header says, and its pixels as RGB.

Whatever the file holds becomes 8-bit RGB: grey values repeated, palettes looked up, 16-bit grey brought from the range
of its set to 8 bits, the first frame of an animation, turned upright as its EXIF tag asks. Transparent pixels are
composited on white. A picture brought to a size is cropped to the largest central rectangle of that shape, or to a
central square of a given side, then resized (antialiased; bicubic, or bilinear as the published pipelines of some sets
do).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vaebm.data.files.archives import UnreadableImage
from vaebm.errors import InputError

ORIENTATION_TAG = 0x0112
WHITE = 65535  # of 16-bit grey that uses its whole range
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


KINDS = {"1": "grey", "L": "grey", "LA": "grey", "P": "with a palette", "CMYK": "CMYK", "YCbCr": "RGB"}
Opener = Callable[[], BinaryIO]
Filter = Literal["bicubic", "bilinear"]
Size = int | tuple[int, int]  # a side, or height and width


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are decoded; height and width as it is to be shown.

    `kind` is how its pixels are stored: "grey", "16-bit grey", "with a palette", "RGB", "CMYK".
    """

    format: str
    height: int
    width: int
    kind: str


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (H, W, 3) uint8, and whether any of them were transparent (they now lie on white)."""

    pixels: NDArray[np.uint8]
    transparent: bool


def read_header(opener: Opener) -> Header:
    """Format, size and kind, without decoding. UnreadableImage: this is no image, or one too large to decode."""
    with _opened(opener) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION_TAG) in SIDEWAYS:
            width, height = height, width
        kind = "16-bit grey" if image.mode.startswith("I") else KINDS.get(image.mode, "RGB")
        return Header(image.format or "unknown", height, width, kind)


def read_picture(
    opener: Opener,
    size: tuple[int, int] | None,
    crop: int | None = None,
    resample: Filter = "bicubic",
    white: int = WHITE,
) -> Picture:
    """Decodes a file and brings it to `size` (height, width), after a central crop of side `crop`; as it is with None.

    `white` is the value of white in 16-bit grey.

    Raises:
        UnreadableImage: the file is truncated, damaged, smaller than the crop, or has pixels without a known range.
    """
    with _opened(opener) as image:
        upright = ImageOps.exif_transpose(image)
        rgb, transparent = _to_rgb(upright, white)
        if crop is not None:
            left, top = (rgb.width - crop) // 2, (rgb.height - crop) // 2
            if min(left, top) < 0:
                raise UnreadableImage(f"smaller than {crop} x {crop}")
            rgb = rgb.crop((left, top, left + crop, top + crop))
        if size is not None and rgb.size != size[::-1]:
            rgb = ImageOps.fit(rgb, size[::-1], method=Image.Resampling[resample.upper()])
        return Picture(np.array(rgb, dtype=np.uint8), transparent)


def read_peak(opener: Opener) -> int:
    """The largest value of a picture. UnreadableImage: as for `read_picture`."""
    with _opened(opener) as image:
        return int(np.asarray(image).max())


def white_of(peak: int) -> int:
    """White in 16-bit grey whose largest value is `peak`: the largest value of as many bits as that needs, 8 at least.

    >>> white_of(200), white_of(4000), white_of(65535)
    (255, 4095, 65535)
    """
    return int(2 ** min(16, max(8, peak.bit_length())) - 1)


def fitted(pixels: NDArray[np.uint8], size: tuple[int, int], grey: bool) -> NDArray[np.uint8]:
    """Pixels (H, W, 1 or 3) as grey or RGB of a size (height, width): cropped to its shape, then resized, bicubic."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L" if grey else "RGB")
    if image.size != size[::-1]:
        image = ImageOps.fit(image, size[::-1], method=Image.Resampling.BICUBIC)
    return np.array(image, dtype=np.uint8).reshape(*size, 1 if grey else 3)


@contextmanager
def _opened(opener: Opener) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata does not concern the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow only warns up to twice its limit
        try:
            with opener() as file, Image.open(file) as image:
                yield image
        except (UnreadableImage, InputError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImage("too large to decode safely") from None
        except UnidentifiedImageError:
            raise UnreadableImage("not an image") from None
        except PermissionError:
            raise UnreadableImage("no permission to read") from None
        except Exception:  # noqa: BLE001 - on damaged files decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
            raise UnreadableImage("truncated or damaged") from None


def _to_rgb(image: Image.Image, white: int) -> tuple[Image.Image, bool]:
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels without a known range")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        grey = np.clip(np.asarray(image).astype(np.int64) * 255 // white, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB"), False
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    layered = image.convert("RGBA")
    transparent = bool((np.asarray(layered)[:, :, 3] < 255).any())
    background = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(background, layered).convert("RGB"), transparent
