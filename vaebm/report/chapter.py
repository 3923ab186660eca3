"""Chapters: what a page is made of, before it is HTML.

A chapter has a title, a few sentences, and blocks: plates (a picture with its caption) side by side, a film (frames
that the reader steps through), a table. Pictures are carried inside the page as data URIs, so the page needs
nothing beside itself.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


def data_uri(picture: bytes) -> str:
    """A PNG or SVG as a link that holds it."""
    kind = "png" if picture.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


@dataclass(frozen=True)
class Plate:
    """A picture, and the sentences that say what it is and what to see in it.

    Args:
        picture: SVG or PNG.
        caption: what to see.
        title: above it; "" for none.
        colour: of the title's mark: a subject's.
    """

    picture: bytes
    caption: str
    title: str = ""
    colour: str = ""
    is_film: ClassVar[bool] = False

    @property
    def source(self) -> str:
        """Of the image."""
        return data_uri(self.picture)


@dataclass(frozen=True)
class Film:
    """Frames, stacked in one picture from top to bottom, shown one at a time.

    Args:
        picture: PNG of all frames.
        labels: one a frame.
        width: of one frame, in pixels of the picture.
        height: of one frame.
        caption: what to see.
        crisp: whether pixels are to stay squares when the film is enlarged.
    """

    picture: bytes
    labels: Sequence[str]
    width: int
    height: int
    caption: str
    crisp: bool = True
    is_film: ClassVar[bool] = True

    @property
    def source(self) -> str:
        """Of all frames."""
        return data_uri(self.picture)


@dataclass(frozen=True)
class Plates:
    """Plates and films side by side, as many as fit.

    Args:
        plates: in order.
        width: least width of each, in pixels; they wrap where the page is narrower.
        most: width beyond which a plate does not grow.
        caption: that all of them share.
    """

    plates: Sequence[Plate | Film]
    width: int = 300
    most: int = 560
    caption: str = ""


@dataclass(frozen=True)
class Chapter:
    """One part of the story.

    Args:
        key: its anchor.
        title: its heading.
        sentences: what it says before its blocks.
        blocks: what it shows.
    """

    key: str
    title: str
    sentences: Sequence[str]
    blocks: Sequence[Plates] = ()
