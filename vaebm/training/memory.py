"""Memory that runs out: a batch is then learned from in parts, whose gradients are added up.

    g = sum over parts of  (rows of the part / rows of the batch)  g_part

That is the gradient of the whole batch where the loss is a mean over rows. A contrast of energies need not be: it may
center them in the batch, or take the logarithm of a mean. Its energies are computed first, part by part and without
what a backward pass needs; the contrast gives its derivative in each of them, and a second pass takes that on to the
weights, part by part:

    dL/dw = sum over rows i of  dL/dE_i  dE_i/dw

This is exact for any contrast, since a net's energies of two rows do not depend on each other. What is not exact: the
statistics of a batch normalisation, and the balance of a VAE's groups, are those of each part. An objective that
compares the rows of a batch (`Objective.sums_rows`) is not taken apart.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SAID = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a CPU or on an accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in SAID)


def rows_of_parts(rows: int, parts: int) -> Iterable[tuple[slice, float]]:
    """The rows of each part, as equal as can be, and which fraction of all they are."""
    for part in torch.arange(rows).tensor_split(parts):
        if len(part):
            yield slice(int(part[0]), int(part[-1]) + 1), len(part) / rows


def energies_in_parts(energy: Callable[[slice], Tensor], rows: int, parts: int) -> Tensor:
    """Energies (rows,) that take a gradient, without what the energy's own backward pass needs."""
    with torch.no_grad():
        energies = torch.cat([energy(part) for part, _ in rows_of_parts(rows, parts)])
    return energies.requires_grad_()


def backward_in_parts(energy: Callable[[slice], Tensor], energies: Tensor, parts: int) -> None:
    """Takes the gradient that `energies_in_parts` have been given on to the weights."""
    assert energies.grad is not None
    for part, _ in rows_of_parts(len(energies), parts):
        energy(part).backward(energies.grad[part])
