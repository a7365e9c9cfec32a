"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of third-party models and texts, or skip the test where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    path = Path(os.environ.get("ENGLISHROOM_SHARED", default))
    if not (path / "models").is_dir():
        pytest.skip(f"no third-party models and texts at {path}; set ENGLISHROOM_SHARED to their folder")
    return path
