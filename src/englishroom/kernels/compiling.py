"""How the loops are compiled: by numba, without the interpreter's lock, and kept on disk where there is a place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop at its first call for some types; what was compiled is kept for the next process.

    numba keeps it beside the module, or in the user's cache folder, or in ``NUMBA_CACHE_DIR``. Where none of them can
    be written (a read-only installation without a home), each process compiles for itself, a few seconds for a model.

    Args:
        fastmath: freedoms of rounding that the compiler may take, by LLVM's names.
    """

    def compile_later(loop: Callable[..., Any]) -> Any:
        found = njit(nogil=True, fastmath=fastmath)(loop)
        with contextlib.suppress(RuntimeError):  # "cannot cache function: no locator available"
            found.enable_caching()
        return found

    return compile_later
