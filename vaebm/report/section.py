"""Sections: what a page is made of, before it is HTML.

A section has a title, a few sentences, and rows of figures and animations side by side. Pictures are carried inside the
page as data URIs, so the page needs nothing beside itself.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
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

    @property
    def source(self) -> str:
        """The picture as a link that holds it."""
        kind = "png" if self.picture.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{b64encode(self.picture).decode()}"


@dataclass(frozen=True)
class Animation(Figure):
    """Frames, stacked in one picture from top to bottom, shown one at a time.

    Args:
        labels: one a frame.
        width: of one frame, in pixels of the picture.
        height: of one frame.
        crisp: whether pixels are to stay squares when it is enlarged.
    """

    labels: Sequence[str] = ()
    width: int = 0
    height: int = 0
    crisp: bool = True


@dataclass(frozen=True)
class Row:
    """Figures side by side, as many as fit.

    Args:
        figures: in order.
        width: least width of each, in pixels; they wrap where the page is narrower.
        most: width beyond which a figure does not grow.
        caption: that all of them share.
    """

    figures: Sequence[Figure]
    width: int = 300
    most: int = 560
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Args:
        key: its anchor.
        title: its heading.
        sentences: what it says before its rows.
        rows: what it shows.
    """

    key: str
    title: str
    sentences: Sequence[str]
    rows: Sequence[Row] = ()
