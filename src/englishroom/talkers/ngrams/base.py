"""What an n-gram talker needs of the talker that it builds on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from englishroom.talker import Talker


class Base(Talker, Protocol):
    """A talker that gives every token some probability, and can be written down."""

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return everything that it answers by, by name."""
        ...
