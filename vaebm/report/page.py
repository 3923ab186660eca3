"""The page: the story of a run in one HTML file that opens offline.

Pictures are inside it, as are its style and the few lines of script that move films; nothing is loaded from
elsewhere. Beside it two pictures for a README or a slide are left in RUN/samples: `comparison.png` (data and models
side by side) and `chains.png` (chains from start to end).
"""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vaebm.data import POINTS, DataSet
from vaebm.experiment.run_directory import Run
from vaebm.files import write_atomically
from vaebm.metrics.measurement import Measurement
from vaebm.models import in_noise_space
from vaebm.progress import Progress, silent
from vaebm.report.chapter import Chapter
from vaebm.report.densities import Densities
from vaebm.report.exhibits import Exhibits, draw_exhibits
from vaebm.report.story.chains import chain_picture, chains_chapter
from vaebm.report.story.data import data_chapter
from vaebm.report.story.density import comparison_picture as compare_points
from vaebm.report.story.density import densities_or_reason, density_chapter
from vaebm.report.story.energy import energy_chapter
from vaebm.report.story.opening import Opening, opening
from vaebm.report.story.record import record
from vaebm.report.story.samples import comparison_picture as compare_images
from vaebm.report.story.samples import samples_chapter
from vaebm.report.story.training import training_chapter
from vaebm.report.subjects import subject
from vaebm.report.tables import LEGEND, columns, measurement_rows, protocols

TEMPLATES = Path(__file__).parent / "templates"
REPORT, SAMPLES = "report.html", "samples"


def write_report(run: Run, *, device: str | None = None, progress: Progress | None = None) -> Path:
    """Draws and writes `RUN/report.html` and the pictures in `RUN/samples`; returns the path of the page.

    Args:
        run: with a model, finished or not, measured or not.
        device: where the model runs.
        progress: of the chains and the chapters.

    Raises:
        InputError: the run has no model yet.
    """
    progress = progress or silent()
    model, data, measured = in_noise_space(run.model(device)), run.data(), run.measurements()
    with progress.task("report", 4, "parts") as task:
        exhibits = draw_exhibits(model, data, progress)
        task.advance()
        found = densities_or_reason(data, exhibits, measured) if data.modality is POINTS else None
        task.advance()
        top = opening(run, model)
        chapters = _chapters(run, data, exhibits, top, found, measured)
        task.advance()
        _write_pictures(run, data, exhibits, top, found, measured)
        page = (
            _environment()
            .get_template("page.html.jinja")
            .render(
                opening=top,
                chapters=chapters,
                rows=(rows := measurement_rows(measured)),
                columns=[subject(key) for key in columns(rows)],
                protocols=protocols(rows),
                legend=LEGEND,
                run=run,
                record=record(run, model),
            )
        )
        write_atomically(run.path / REPORT, page.encode())
        task.advance()
    return run.path / REPORT


def _chapters(
    run: Run,
    data: DataSet,
    exhibits: Exhibits,
    top: Opening,
    found: Densities | str | None,
    measured: list[Measurement],
) -> list[Chapter]:
    if found is None:
        samples = samples_chapter(data, exhibits, top.verdict)
    else:
        samples = density_chapter(data, exhibits, found, measured)
    return [
        data_chapter(data, exhibits),
        samples,
        chains_chapter(data, exhibits),
        energy_chapter(exhibits, found),
        training_chapter(run),
    ]


def _write_pictures(
    run: Run,
    data: DataSet,
    exhibits: Exhibits,
    top: Opening,
    found: Densities | str | None,
    measured: list[Measurement],
) -> None:
    folder = run.path / SAMPLES
    folder.mkdir(exist_ok=True)
    if found is None:
        comparison = compare_images(data, exhibits, top.verdict)
    else:
        comparison = compare_points(data, exhibits, found, measured)
    write_atomically(folder / "comparison.png", comparison)
    if exhibits.chains is not None:
        write_atomically(folder / "chains.png", chain_picture(data, exhibits))


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
