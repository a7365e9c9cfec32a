"""Explanations of what a sparse program says, by the very code that stands in its emitted file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace

import numpy as np

from englishroom.emit.graph import graph, rows_of
from englishroom.emit.prelude import asking, reasons, telling
from englishroom.emit.reasons import parts_of
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
    given = SimpleNamespace(prompt=prompt, told=told, **asdict(options))  # as the emitted file's command line has them
    stream = Interpreter(program, np.float64).stream()

    def says(token: int, _position: int) -> list[float]:
        return stream.extend(np.array([[token]]))[0, 0].tolist()

    if program.is_readable:
        parts = parts_of(program, tokenizer, labels)
        why = partial(reasons.explain_readable, parts, says=says, n_ctx=program.n_ctx, tokenizer=tokenizer)
    else:
        blocks = graph(program, rows_of)
        called = telling.naming(names_of(labels), blocks, tokenizer)
        why = partial(telling.explain, blocks, says=says, n_ctx=program.n_ctx, tokenizer=tokenizer, called=called)
    try:
        yield from asking.explanations(given, tokenizer, program.n_ctx, why)
    except ValueError as error:
        raise ConfigError(f"{error}") from None


def names_of(labels: Labels) -> Mapping[str, list[str]]:
    """Return the labels of each variable that has them, in order."""
    return {variable: [feature.label for feature in features] for variable, features in labels.features.items()}
