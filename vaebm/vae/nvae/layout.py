"""Where an NVAE's groups of latents lie: scales from the coarsest up, and the image shapes that they fit.

    full size  H x W        widths[0] channels        no latents here, or the last groups
               H/2 x W/2    widths[1]                 ...
    coarsest   H/2^n x ..   widths[n]                 groups[0] groups, the first of them the top

`groups` counts from the coarsest scale; finer scales that it does not reach only carry pixels there and back. A border
of `padding` pixels may be added around the image first.
"""

from collections.abc import Sequence
from typing import NamedTuple

from vaebm.data.modality import IMAGES
from vaebm.errors import InputError


class Scale(NamedTuple):
    """One resolution: its channels, its size, and how many groups of latents it holds."""

    channels: int
    height: int
    width: int
    groups: int


def scales(data_shape: tuple[int, ...], widths: Sequence[int], groups: Sequence[int], padding: int) -> list[Scale]:
    """Scales from the coarsest to the full size.

    Raises:
        InputError: the data are no images, or their size cannot be halved so often.
    """
    IMAGES.require(data_shape, "vae.kind=nvae", "vae.kind=mlp")
    height, width = (side + 2 * padding for side in data_shape[1:])
    divisor = 2 ** (len(widths) - 1)
    if height % divisor or width % divisor:
        raise InputError(
            f"vae.widths has {len(widths)} scales, so sides have to be multiples of {divisor}, but images are"
            f" {height} x {width}{f' with vae.padding={padding}' if padding else ''}: {_remedy(data_shape, widths)}"
        )
    found = [
        Scale(channels, height >> i, width >> i, count)
        for i, (channels, count) in enumerate(zip(widths, _from_full_size(widths, groups), strict=True))
    ]
    return found[::-1]


def _from_full_size(widths: Sequence[int], groups: Sequence[int]) -> list[int]:
    return [0] * (len(widths) - len(groups)) + list(reversed(groups))


def _remedy(data_shape: tuple[int, ...], widths: Sequence[int]) -> str:
    _, height, width = data_shape
    divisor = 2 ** (len(widths) - 1)
    padding = next(
        (p for p in range(1, divisor) if not ((height + 2 * p) % divisor or (width + 2 * p) % divisor)), None
    )
    most = next(n for n in range(len(widths), 0, -1) if not (height % 2 ** (n - 1) or width % 2 ** (n - 1)))
    fewer = f"give at most {most} widths" if most > 1 else "give one width"
    return fewer if padding is None else f"set vae.padding={padding}, or {fewer}"
