"""Histograms over one axis: of energies of data and models, and of scores of samples and of ordinary data."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.report.figures.canvas import INK, MUTED, chart, svg
from vaebm.report.subjects import WITH_ENERGY, in_order, subject

MIN_BINS, MAX_BINS = 16, 48
USUAL = 0.95  # quantile of ordinary scores that is a third of the axis away from the least
SHOWN = (0.005, 0.995)  # quantiles of all values together between which the axis lies


def energy_histograms(energies: Mapping[str, Tensor]) -> bytes:
    """An SVG of E(x) of each subject, (n,), in nats above the held-out data's mean."""
    everything = torch.cat(list(energies.values()))
    low, high = (float(q) for q in torch.quantile(everything, torch.tensor(SHOWN)))
    smallest = min(len(values) for values in energies.values())
    bins = max(MIN_BINS, min(MAX_BINS, int(1.5 * smallest**0.5)))
    margin = 0.04 * max(high - low, 1e-3)
    edges = torch.linspace(low - margin, high + margin, bins + 1)
    with chart("", 5.2, 2.9) as axes:
        for key in in_order(set(energies)):
            values = energies[key].clamp(edges[0], edges[-1])
            density = torch.histogram(values, edges).hist / (len(values) * (edges[1] - edges[0]))
            who = subject(key)
            front = key in (*WITH_ENERGY, "held_out")
            axes.stairs(
                density.numpy(), edges.numpy(), color=who.colour, linewidth=2.0 if front else 1.4, label=who.label
            )
            axes.stairs(density.numpy(), edges.numpy(), color=who.colour, fill=True, alpha=0.16 if front else 0.08)
        axes.set_xlabel("E(x), in nats above the mean over held-out data (low = likely)")
        axes.set_ylabel("density, per nat")
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.legend(loc="best")
        return svg(axes.get_figure(root=True))


def score_histogram(scores: Tensor, ordinary: Tensor) -> bytes:
    """An SVG of scores (n,) beside those that a model was calibrated on, (m,), in nats."""
    low, usual = float(ordinary.min()), float(ordinary.quantile(USUAL))
    high = low + 3 * max(usual - low, 1e-3)
    bins = max(MIN_BINS, min(MAX_BINS, int(1.5 * min(len(scores), len(ordinary)) ** 0.5)))
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    with chart("", 5.2, 2.9) as axes:
        for values, colour, label in ((ordinary, MUTED, "calibrated on"), (scores, INK, "scored")):
            density = torch.histogram(values.clamp(edges[0], edges[-1]), edges).hist / len(values)
            axes.stairs(density.numpy(), edges.numpy(), color=colour, linewidth=2.0, label=label)
            axes.stairs(density.numpy(), edges.numpy(), color=colour, fill=True, alpha=0.14)
        axes.set_xlabel("score, in nats (high = strange)")
        axes.set_ylabel("fraction, per bin")
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.legend(loc="best")
        return svg(axes.get_figure(root=True))
