"""Explanations of what a sparse program says, by the very code that stands in its emitted file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from englishroom.emit.graph import graph, rows_of
from englishroom.emit.prelude import telling
from englishroom.errors import ConfigError
from englishroom.evaluate.talk import TalkOptions
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import Labels
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer


def explain(
    program: Program, tokenizer: Tokenizer, labels: Labels, prompt: str, options: TalkOptions, told: str | None = None
) -> Iterator[str]:
    """Yield why a program says each token of its story, or of a text.

    Args:
        told: a text whose tokens are explained in place of new ones.

    Raises:
        ConfigError: the program is not at the sparse level, or a text does not fit.
    """
    options.validate()
    blocks = graph(program, rows_of)
    given = SimpleNamespace(prompt=prompt, told=told, **asdict(options))  # as the emitted file's command line has them
    called = telling.naming(names_of(labels), blocks, tokenizer)
    stream = Interpreter(program, np.float64).stream()

    def says(token: int, _position: int) -> list[float]:
        return stream.extend(np.array([[token]]))[0, 0].tolist()

    try:
        yield from telling.explanations(given, blocks, says, tokenizer, program.n_ctx, called)
    except ValueError as error:
        raise ConfigError(f"{error}") from None


def names_of(labels: Labels) -> Mapping[str, list[str]]:
    """Return the labels of each variable that has them, in order."""
    return {variable: [feature.label for feature in features] for variable, features in labels.features.items()}
