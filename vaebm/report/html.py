"""HTML: sections and tables as one page that opens offline.

Pictures are inside the page, as are its style and the few lines of script that move animations; nothing is loaded from
elsewhere.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vaebm.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fills `templates/TEMPLATE.html.jinja` into a file; returns its path."""
    page = _environment().get_template(f"{template}.html.jinja").render(values)
    write_atomically(path, page.encode())
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
    environment.globals["style"] = Markup((TEMPLATES / "page.css").read_text())
    environment.globals["script"] = Markup((TEMPLATES / "page.js").read_text())
    return environment


def _coded(text: str) -> Markup:
    """The text, escaped, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
