"""How long work says what it is doing."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Called with a remark, one line."""
Progress = Callable[[str, int, int], None]
"""Called with the name of the step at hand, how much of it is done, and how much there is."""
StepProgress = Callable[[int, int], None]
"""Called with how much of one step is done, and how much there is."""


def silent(*_said: object) -> None:
    """Say nothing: what serves where nobody watches."""
