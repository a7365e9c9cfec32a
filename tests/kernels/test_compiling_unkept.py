"""A loop runs where numba cannot keep what it compiled."""

from __future__ import annotations

import pytest
from numba.core.caching import FunctionCache

from englishroom.kernels.compiling import compiled


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("no compiled object yet for <Library>")])
def test_what_cannot_be_kept_is_not_kept(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, sig: object, data: object) -> None:
        raise error

    monkeypatch.setattr(FunctionCache, "load_overload", lambda *_: None)
    monkeypatch.setattr(FunctionCache, "save_overload", refuse)

    @compiled()
    def doubled(x: int) -> int:
        return 2 * x

    assert doubled(21) == 42
