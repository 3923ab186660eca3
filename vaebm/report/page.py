"""The page of a run: what happened, how good are the samples, and what did the energy add?

Beside it two pictures for a README or a slide are left in RUN/samples: `comparison.png` (data and models side by side)
and `chains.png` (chains from start to end), of data that are images or points.
"""

from pathlib import Path

from vaebm.evaluation import quantity
from vaebm.experiment.illustrate import illustrate
from vaebm.experiment.run_directory import Run
from vaebm.files import write_atomically
from vaebm.progress import Progress, silent
from vaebm.report.facts import deciding_figure, events, facts_of, surroundings, title_of, warning
from vaebm.report.report_data import ReportData
from vaebm.report.section import write_page
from vaebm.report.sections import SECTIONS
from vaebm.report.sections.chains import chain_picture
from vaebm.report.sections.density import comparison_of_points
from vaebm.report.sections.samples import comparison_of_images
from vaebm.report.subjects import subject
from vaebm.report.tables import LEGEND, columns, measurement_rows, protocols

REPORT, SAMPLES = "report.html", "samples"


def write_report(run: Run, *, device: str | None = None, progress: Progress | None = None) -> Path:
    """Writes `RUN/report.html` and the pictures in `RUN/samples`; returns the path of the page.

    The run may be finished or not, measured or not. The model runs on `device` if what the page shows of it is not
    stored yet.

    Raises:
        InputError: the run has no model yet, or its measurements are damaged.
    """
    progress = progress or silent()
    measurements = run.measurements()  # a damaged file is refused before anything is drawn
    report = ReportData(run, measurements, illustrate(run, device=device, progress=progress))
    sections = []
    with progress.task("report", len(SECTIONS), "sections") as task:
        for make in SECTIONS:
            sections.append(make(report))
            task.advance()
    _write_pictures(report)
    rows = measurement_rows(measurements)
    return write_page(
        run.path / REPORT,
        "report",
        run=run,
        title=title_of(run),
        warning=warning(run),
        verdict=report.verdict,
        figure=deciding_figure(report.verdict),
        facts=facts_of(report),
        sections=[section for section in sections if section is not None],
        rows=rows,
        columns=[subject(key) for key in columns(rows)],
        protocols=protocols(rows),
        inapplicable=[quantity(name).phrase for name in report.illustrations.model.inapplicable],
        legend=LEGEND,
        events=events(run),
        surroundings=surroundings(run),
    )


def _write_pictures(report: ReportData) -> None:
    if report.data.columns is not None:
        return
    folder, chains = report.run.path / SAMPLES, report.illustrations.chains
    folder.mkdir(exist_ok=True)
    if report.data.modality.pictured:
        write_atomically(folder / "comparison.png", comparison_of_images(report))
    else:
        write_atomically(folder / "comparison.png", comparison_of_points(report))
    if chains is not None and not chains.run.refusal:
        write_atomically(folder / "chains.png", chain_picture(report.data, chains))
