"""Share the work of compiled loops out to torch's number of threads.

A loop does a range ``low`` to ``high`` of its work and holds no lock. (numba's own thread pool spins while it waits,
which costs a two-core machine half of its speed.)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def array(tensor: Tensor) -> NDArray:
    """View a contiguous CPU tensor as an array."""
    assert tensor.is_contiguous(), "compiled loops read rows as they lie in memory"
    return tensor.detach().numpy()


def run(loop: Callable[..., None], n: int, *arguments: Any, work: NDArray | None = None) -> None:
    """Call ``loop(low, high, *arguments)`` for parts of ``range(n)``, one a thread.

    Args:
        work: what has been done before each item and after the last, [n + 1], where items differ much.
    """
    n_threads = min(torch.get_num_threads(), max(1, n))
    if work is None:
        bounds = [n * i // n_threads for i in range(n_threads + 1)]
    else:
        cuts = np.searchsorted(work, [work[-1] * i / n_threads for i in range(1, n_threads)])
        bounds = [0, *map(int, cuts), n]
    rest = [_pool(n_threads).submit(loop, *part, *arguments) for part in pairwise(bounds[1:])]
    loop(bounds[0], bounds[1], *arguments)
    for part in rest:
        part.result()


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, n_threads - 1), "loops")
