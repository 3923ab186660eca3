"""How a number moves over the iterations of a stage."""


def ramp(iteration: int, flat: int, length: int) -> float:
    """0 for `flat` iterations, then linearly to 1 over `length`, then 1."""
    if iteration < flat:
        return 0.0
    return min(1.0, (iteration - flat + 1) / length) if length else 1.0


def rise_and_fall(iteration: int, iterations: int, rise: int) -> float:
    """Linearly up to 1 over `rise` iterations and then down, towards 0 at the end: the shape of a learning rate."""
    if iteration < rise:
        return (iteration + 1) / rise
    return (iterations - iteration) / max(1, iterations - rise)
