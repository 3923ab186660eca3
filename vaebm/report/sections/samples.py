"""Images: samples of each model side by side."""

from collections.abc import Callable

from torch import Tensor

from vaebm.data.collection import FEW
from vaebm.evaluation.metric import quantity
from vaebm.metrics.arrays import nearest
from vaebm.metrics.measurement import Measurement
from vaebm.report.figures import sheet
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.subjects import FLOORS, RECONSTRUCTION, SHOWN, STARTS, subject, with_energy
from vaebm.report.verdict import SURE
from vaebm.wording import counted

PAIRS_ACROSS, PAIRS_DOWN = 8, 3


def samples_section(report: ReportData) -> Section | None:
    """Samples that were measured; None where they are no pictures."""
    if not report.data.modality.pictured:
        return None
    chains = report.illustrations.chains
    sentences = [f"{report.origin}. They were not chosen and are shown {SHOWN.get(report.show, report.show)}."]
    if chains is not None and not chains.run.refusal:
        sentences[0] += f" The chains of {with_energy(report.subjects).name} start from {STARTS[chains.run.start]}."
    sentences += refusals(report)
    rows = [_models(report), _pairs(report), _repeats(report), _other_show(report)]
    return Section("samples", "What the models make of noise", sentences, [row for row in rows if row is not None])


def _repeats(report: ReportData) -> Row | None:
    """Of few training images: samples beside what they may repeat."""
    own = with_energy(report.subjects)
    x, train = report.samples(own.key, PAIRS_ACROSS * PAIRS_DOWN), report.data.train
    if x is None or len(train) >= FEW:
        return None
    x = x[: max(1, sheet.images_that_fit(report.data.shape, sheet.BUDGET) // 2)]
    rows = nearest(x.clamp(-1, 1).flatten(1), train.all().flatten(1))[1]
    pairs = sheet.interleaved(sheet.tiles(x), sheet.tiles(train.batch(rows).x))
    across = min(PAIRS_ACROSS, len(x))
    paper = sheet.wide_sheet(pairs, 2 * across, wide_gaps=range(1, 2 * across, 2))
    caption = (
        f"Each pair shows a sample on the left and, on the right, the one of the {len(train):,} training images whose"
        " pixels are closest to it. Few images are easily learned by heart: a sample that is the same picture is no"
        " new one."
    )
    measured = [m for m in report.measurements if (m.name, m.subject) == ("memorised_fraction", own.key)]
    caption += "".join(f" {_beyond_chance(m)}" for m in measured[:1])
    return Row([Figure(sheet.png(paper), caption, "Samples and the closest training images", own.colour)], 300, 1080)


def _beyond_chance(found: Measurement) -> str:
    """What the measurement of repeats says."""
    said = quantity(found.name).said(found)
    if found.value > SURE * found.stderr:
        return (
            f"Training images are closest as often as if {said} of all samples repeated one: train for fewer"
            " iterations, with fewer latents (`vae.latent_dim`) or a smaller energy, or give more images."
        )
    return f"Training images are closest as often as chance explains, as if {said} of all samples repeated one."


def refusals(report: ReportData) -> list[str]:
    """Why there are no samples of a subject."""
    refused = report.illustrations.model.refused
    return [f"There are no samples of {subject(key).name}: {reason}" for key, reason in refused.items()]


def comparison_of_images(report: ReportData) -> bytes:
    """Data and models side by side, with their numbers, as one PNG."""
    side = sheet.grid_side(report.data.shape)
    return sheet.side_by_side(
        [
            sheet.Panel(
                subject(key).label, report.numbers.get(key, ""), sheet.square_sheet(x, side), subject(key).colour
            )
            for key in report.subjects
            if (x := report.samples(key, side * side)) is not None
        ]
    )


def _models(report: ReportData) -> Row:
    facts, chains = report.illustrations.model, report.illustrations.chains
    own = with_energy(report.subjects)
    captions = {
        **dict.fromkeys(FLOORS, "Samples should look like these."),
        "vae": "Codes come from the prior, which also reaches where no data have any.",
        "vae_mixture": "The decoder is the same, and codes come from"
        f" {counted(facts.components or 0, 'Gaussian')} fitted to those of the data.",
        "start": f"The chains of {own.name} begin here, and differ by the energy alone. This is the baseline to beat.",
        own.key: "" if chains is None else f"Each image is the end of a chain of {chains.run.sampler}.",
    }

    def caption(key: str) -> str:
        number = report.numbers.get(key)
        return " ".join(part for part in (f"{number}." if number else "", captions.get(key, "")) if part)

    return _sheets(
        report,
        report.subjects,
        report.show,
        caption,
        "From left to right, broken and blended shapes should become rarer, and edges as sharp as in the data.",
    )


def _other_show(report: ReportData) -> Row:
    show = "sample" if report.show == "mean" else "mean"
    shared = "These include the pixel noise that the means above leave out."
    if show == "mean":
        shared = (
            "Means differ only by their codes. What the energy does to the pixel noise cannot be seen here, and means"
            " look smoother than the samples above."
        )
    through = "These are held-out images after encoder and decoder: the best that this decoder can do."
    again = f"These are the samples above, {SHOWN[show]}."
    keys = [RECONSTRUCTION, *report.models]
    return _sheets(report, keys, show, lambda key: through if key == RECONSTRUCTION else again, shared)


def _sheets(report: ReportData, keys: list[str], show: str, caption: Callable[[str], str], shared: str) -> Row:
    side = sheet.grid_side(report.data.shape)
    samples: dict[str, Tensor | None] = {key: report.samples(key, side * side, show) for key in keys}
    figures = [
        Figure(
            sheet.png(sheet.square_sheet(x, side)),
            caption(key) or f"{subject(key).label}.",
            subject(key).label,
            subject(key).colour,
        )
        for key, x in samples.items()
        if x is not None
    ]
    return Row(figures, 180, 360, shared)


def _pairs(report: ReportData) -> Row | None:
    chains = report.illustrations.chains
    if chains is None or chains.run.refusal:
        return None
    most = sheet.images_that_fit(report.data.shape, sheet.BUDGET) // 2
    count = min(PAIRS_ACROSS * PAIRS_DOWN, most, chains.x.shape[1])
    across = min(PAIRS_ACROSS, count)
    pairs = sheet.interleaved(sheet.tiles(chains.x[0, :count]), sheet.tiles(chains.x[-1, :count]))
    caption = (
        f"Each of {counted(count, 'pair')} shows the start of a chain on the left and its end on the right. The energy"
        " should change what breaks off, what is grainy and what no data have, and keep the rest."
    )
    paper = sheet.wide_sheet(pairs, 2 * across, wide_gaps=range(1, 2 * across, 2))
    colour = with_energy(report.subjects).colour
    return Row([Figure(sheet.png(paper), caption, "Start and end of single chains", colour)], 300, 1080)
