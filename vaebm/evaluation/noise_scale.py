"""Noise scale: how much of the decoder's pixel noise serves a subject best.

    x = T(eps_z, s eps_x),      s in [0, 1]: 1 is a sample of p(x | z), 0 the decoder's image without noise

A VAE's noise is often too large for what a distance looks at, and showing less of it costs nothing. So each subject is
measured with all of its noise and at the scale that gives it the least Frechet distance to validation images; distances
at that scale are then reported against the test images, which had no part in the choice.
"""

from collections.abc import Callable

STEPS = (0.25, 0.125, 0.0625)


def best_scale(distance: Callable[[float], float]) -> float:
    """The scale in [0, 1] of the least distance, to within a sixteenth: five scales, then two neighbours, twice.

    >>> best_scale(lambda scale: (scale - 0.6) ** 2)
    0.625
    """
    tried = {scale: distance(scale) for scale in (0.0, 0.25, 0.5, 0.75, 1.0)}
    for step in STEPS[1:]:
        best = min(tried, key=lambda scale: tried[scale])
        for scale in (best - step, best + step):
            if 0.0 <= scale <= 1.0:
                tried[scale] = distance(scale)
    return min(tried, key=lambda scale: tried[scale])
