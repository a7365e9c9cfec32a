"""The options of every command that opens a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Opening:
    """How models are opened."""

    tokenizer: str | None = None
    """Tokenizer of a model, where it does not stand beside it: a tokenizer.json, a folder with one, a llama2.c
    tokenizer file, or a hub name."""
    context: int | None = None
    """Tokens that are read at once at most, where a model's configuration says more than it was trained on; by default
    all that it says."""
    check: bool = True
    """Do not compare a model's forward pass with transformers first."""


@dataclass(frozen=True)
class TalkerOpening(Opening):
    """How rooms, sketches and models are opened."""

    run_code: bool = False
    """Run a sketch that was not written here; it is Python code, so read its sketch.py first."""
