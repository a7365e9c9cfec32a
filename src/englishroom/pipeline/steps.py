"""How long work says what it is doing."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Called with a remark, one line."""
Progress = Callable[[str, int, int], None]
"""Called with the name of the step at hand, how much of it is done, and how much there is."""
