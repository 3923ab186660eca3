"""Sections of a report, in page order. A new one is a function from `ReportData` and a line here.

A section that a run has nothing to say for is None, and is left out.
"""

from collections.abc import Callable

from vaebm.report.report_data import ReportData
from vaebm.report.section import Section
from vaebm.report.sections.chains import chains_section
from vaebm.report.sections.columns import columns_section
from vaebm.report.sections.data import data_section
from vaebm.report.sections.density import density_section
from vaebm.report.sections.energy import energy_section
from vaebm.report.sections.samples import samples_section
from vaebm.report.sections.training import training_section

SECTIONS: list[Callable[[ReportData], Section | None]] = [
    data_section,
    samples_section,  # of images
    density_section,  # of points
    columns_section,  # of rows
    chains_section,
    energy_section,
    training_section,
]
