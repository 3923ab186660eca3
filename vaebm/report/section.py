"""Pages: the sections that they are made of, and how these become HTML that opens offline.

A section has a title, a few sentences, and rows of figures and animations side by side. Pictures are inside the page,
as are its style and the few lines of script that move animations; nothing is loaded from elsewhere.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vaebm.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """A picture, and the sentences that say what it is and what to see in it."""

    picture: bytes  # SVG or PNG
    caption: str  # what to see
    title: str = ""  # above it; "" for none
    colour: str = ""  # of the title's mark: a subject's

    @property
    def source(self) -> str:
        """The picture as a link that holds it."""
        kind = "png" if self.picture.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{b64encode(self.picture).decode()}"


@dataclass(frozen=True)
class Animation(Figure):
    """Frames, stacked in one picture from top to bottom, shown one at a time."""

    labels: Sequence[str] = ()  # one a frame
    width: int = 0  # of one frame, in pixels of the picture
    height: int = 0  # of one frame
    crisp: bool = True  # whether pixels are to stay squares when it is enlarged


@dataclass(frozen=True)
class Row:
    """Figures side by side, as many as fit."""

    figures: Sequence[Figure]  # in order
    width: int = 300  # least width of each, in pixels; they wrap where the page is narrower
    most: int = 560  # width beyond which a figure does not grow
    caption: str = ""  # that all of them share


@dataclass(frozen=True)
class Section:
    """One part of a page."""

    key: str  # its anchor
    title: str  # its heading
    sentences: Sequence[str]  # what it says before its rows
    rows: Sequence[Row] = ()  # what it shows


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fills `templates/TEMPLATE.html.jinja` into a file; returns its path."""
    page = _environment().get_template(f"{template}.html.jinja").render(values)
    write_atomically(path, page.encode(errors="backslashreplace"))
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    environment.globals["style"] = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    environment.globals["script"] = Markup((TEMPLATES / "page.js").read_text(encoding="utf-8"))
    return environment


def _coded(text: str) -> Markup:
    """The text, escaped, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
