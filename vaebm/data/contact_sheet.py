"""A contact sheet: some images of a set on one picture, to see what there is before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebm.files import write_atomically

COLUMNS, ROWS = 10, 6
MAX_SHOWN = COLUMNS * ROWS
TILE, GAP, PAPER = 96, 4, (255, 255, 255)


def contact_sheet(images: Iterable[NDArray[np.uint8]], path: Path) -> None:
    """Writes images (H, W, 1 or 3), of any sizes, as a PNG of tiles; the first MAX_SHOWN of them."""
    tiles = [_tile(image) for _, image in zip(range(MAX_SHOWN), images, strict=False)]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, rows * (TILE + GAP) + GAP), PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (TILE + GAP), GAP + row * (TILE + GAP)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: sheet.save(file, format="png"))


def _tile(pixels: NDArray[np.uint8]) -> Image.Image:
    """Small images enlarged by whole factors, so that their pixels can be seen; large ones reduced."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    longest = max(image.size)
    if longest > TILE:
        return image.resize((max(1, image.width * TILE // longest), max(1, image.height * TILE // longest)))
    factor = TILE // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
