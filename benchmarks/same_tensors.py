"""Whether two runs hold the same tensors, bit for bit, whatever their names: python benchmarks/same_tensors.py RUN RUN.

Tensors are compared in the order in which their models list them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open


def tensors(run: Path) -> dict[str, torch.Tensor]:
    with safe_open(run / "model" / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def main() -> None:
    first, second = (tensors(Path(argument)) for argument in sys.argv[1:3])
    renamed = sorted(first.keys() ^ second.keys())
    differing = [name for name in first.keys() & second.keys() if not torch.equal(first[name], second[name])]
    print(f"{len(first)} and {len(second)} tensors; renamed: {renamed or 'none'}; differing: {differing or 'none'}")
    raise SystemExit(bool(differing) or len(first) != len(second))


if __name__ == "__main__":
    main()
