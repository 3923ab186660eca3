"""The page of scores: which samples are strange, which are ordinary, and why. One HTML file that opens offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.modality import modality_of
from vaebm.experiment.score import ScoreFile
from vaebm.report.figures import sheet
from vaebm.report.figures.histograms import score_histogram
from vaebm.report.section import Figure, Row, Section, write_page
from vaebm.wording import counted

SHOWN = 12  # samples at either end
NAMED = 3  # parts of each

PARTS = (
    "Each sample stands beside its reconstruction, and a map that is dark where a pixel makes the sample unlikely: the"
    " size of d/dx [log p(x | m) - E(x, m)], from white at 0 to black at the largest of the sample."
)
SHARES = (
    "Parts are named with what each adds to the score beyond chance, in nats: half of its share, which is at most 1 on"
    " average over ordinary data. What they mean stands in `docs/verbs/score.md`."
)


def write_scores_page(scored: ScoreFile, path: Path, source: str) -> Path:
    """Writes the page of what was scored, `source` by name, and returns its path."""
    order = scored.scores.score.argsort(descending=True)
    strangest, ordinary = order[:SHOWN], order.flip(0)[: min(SHOWN, len(order) - min(SHOWN, len(order)))]
    said = [PARTS, SHARES] if modality_of(scored.samples.x.shape[1:]).pictured else [SHARES]
    sections = [_all_section(scored), _section(scored, "strangest", "The strangest", said, strangest)]
    if len(ordinary):
        sections.append(_section(scored, "ordinary", "The most ordinary", [], ordinary))
    return write_page(
        path,
        "scores",
        title=f"Scores of {source}",
        summary=f"{counted(len(order), 'sample')} by the model of {scored.run}",
        said=scored.said,
        sections=sections,
    )


def _all_section(scored: ScoreFile) -> Section:
    density = scored.model.score_density
    assert density is not None
    picture = score_histogram(scored.scores.score, density.scores)
    caption = (
        "A sample to the right of nearly all that the model was calibrated on is strange. Scores beyond the axis are"
        " counted in its outermost bins."
    )
    sentences = ["The score is the negative log-density of the parts together: high is strange."]
    return Section("scores", "All scores", sentences, [Row([Figure(picture, caption)], 420, 640)])


def _section(scored: ScoreFile, key: str, title: str, said: list[str], places: Tensor) -> Section:
    x = scored.samples.x[places]
    explained, columns = scored.model.explain(x), scored.model.columns
    shares = explained.shares.items()
    pictured = modality_of(x.shape[1:]).pictured
    figures = [
        Figure(
            _picture(x[i], explained.reconstruction[i], explained.gradient[i]) if pictured else b"",
            _caption(scored, int(place), {name: 0.5 * (float(share[i]) - 1.0) for name, share in shares}),
            scored.samples.names[int(place)],
        )
        for i, place in enumerate(places)
    ]
    if pictured:
        return Section(key, title, said, [Row(figures, 230, 420)])
    named = _values if columns is None else lambda one: _row(columns.decode(one.numpy()))
    lines = [f"`{figure.title}`: {figure.caption} {named(x[i])}" for i, figure in enumerate(figures)]
    return Section(key, title, [*said, *lines])


def _picture(x: Tensor, reconstruction: Tensor, gradient: Tensor) -> bytes:
    """A sample, its reconstruction and its map, side by side."""
    size = gradient.square().sum(0, keepdim=True).sqrt()
    dark = 1.0 - 2.0 * size / size.max().clamp_min(torch.finfo(size.dtype).tiny)
    shown = np.concatenate([sheet.tiles(one[None].clamp(-1, 1)) for one in (x, reconstruction, dark)])
    return sheet.png(sheet.wide_sheet(shown, 3))


def _caption(scored: ScoreFile, place: int, beyond: Mapping[str, float]) -> str:
    """p-value, score, and the parts that add most."""
    most = sorted(beyond, key=lambda name: -beyond[name])[:NAMED]
    parts = ", ".join(f"{name.replace('_', ' ')} {_number(beyond[name], '+')}" for name in most)
    p_value, score = float(scored.scores.p_value[place]), float(scored.scores.score[place])
    return f"p = {p_value:.2g}, score {_number(score)} nats: {parts}."


def _number(value: float, sign: str = "-") -> str:
    return f"{value:{sign},.{0 if abs(value) >= 100 else 1}f}".replace("-", "−")


def _row(columns: Mapping[str, NDArray[Any]]) -> str:
    """A row of a table in words."""
    values = {name: value[0] for name, value in columns.items()}
    said = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()]
    return "; ".join(said).replace(" nan", " missing").replace(" None", " missing") + "."


def _values(x: Tensor) -> str:
    """A point in words."""
    values: Sequence[float] = x.flatten().tolist()
    shown = ", ".join(f"{value:.3g}" for value in values[:8])
    return f"x = ({shown}{', ...' if len(values) > 8 else ''})".replace("-", "−")
