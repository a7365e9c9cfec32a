"""How many threads a decompilation uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from englishroom.models.spec import ModelSpec

LARGE = 512
"""Size of the residual stream from which more than one thread pays."""


@contextmanager
def threads_for(spec: ModelSpec) -> Iterator[None]:
    """Fit a small model on one thread, whatever the machine has, unless OMP_NUM_THREADS says otherwise.

    Its products are too small to be shared: two threads were slower than one on two cores (lab 7). And sums then have
    one order, so the same command makes the same program on any number of cores.
    """
    before = torch.get_num_threads()
    if spec.d_model < LARGE and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
