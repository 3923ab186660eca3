"""Freed memory is kept, so that arrays taken again and again fault no pages anew."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from vaebm.cli.memory import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000) * 2
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux can be asked")
def test_large_arrays_fault_their_pages_once() -> None:
    def faults(*arguments: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, *arguments], check=True, capture_output=True).stdout)

    assert faults("keep") < faults() / 20
