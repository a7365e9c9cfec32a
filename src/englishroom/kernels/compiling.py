"""How the loops are compiled: by numba, without the interpreter's lock, and kept on disk where there is a place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Kept(FunctionCache):
    """Compiled code on disk. What is damaged there is compiled anew, and what cannot be written is not kept."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # what a damaged file raises depends on where it is damaged
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the latter where processes compile one loop at once
            super().save_overload(sig, data)


def compiled(fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop at its first call for some types; what was compiled is kept for the next process.

    numba keeps it beside the module, or in the user's cache folder, or in ``NUMBA_CACHE_DIR``. Where none of them can
    be written (a read-only installation without a home), each process compiles for itself, a few seconds for a model.

    Args:
        fastmath: freedoms of rounding that the compiler may take, by LLVM's names.
    """

    def compile_later(loop: Callable[..., Any]) -> Any:
        found: Any = njit(nogil=True, fastmath=fastmath)(loop)
        with contextlib.suppress(RuntimeError):  # "cannot cache function: no locator available"
            found._cache = _Kept(loop)  # as found.enable_caching() does, but for the kind of cache
        return found

    return compile_later
