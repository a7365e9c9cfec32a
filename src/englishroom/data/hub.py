"""Stream texts from the Hugging Face hub, through the optional ``datasets`` package."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from englishroom.data.corpus import BlankLines, cut_documents
from englishroom.data.documents import pick_column, text_of_row
from englishroom.errors import ConfigError, one_line
from englishroom.steps import Progress, silent

DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class HubText:
    """A column of a dataset on the hub.

    Attributes:
        path: ``owner/name``.
        config: which of the dataset's configurations; ``None`` where it has one only.
        split: for example ``train`` or ``validation``.
        column: the column of the texts; ``None`` guesses it.
    """

    path: str
    config: str | None = None
    split: str = DEFAULT_SPLIT
    column: str | None = None


@dataclass(frozen=True)
class HubDocuments:
    """What was read of a column.

    Attributes:
        column: the column that was read.
        cut: whether reading stopped at the limit, with more to come.
    """

    documents: tuple[str, ...]
    column: str
    cut: bool


def read_hub(
    source: HubText, limit: int, progress: Progress = silent, blank_lines: BlankLines = "collapse"
) -> HubDocuments:
    """Read the first documents of a dataset on the hub without fetching the rest; no code of the dataset is run.

    Args:
        limit: read so many documents at most.

    Raises:
        ConfigError: the package is absent, the hub cannot be reached, or it has no such dataset, split or column.
    """
    rows = iter(_guarded(source, _rows(source)))
    first = next(rows, None)
    if first is None:
        raise ConfigError(f"{source.path}: split {source.split!r} has no rows; name another as OWNER/NAME:SPLIT")
    how = f"{source.path}:{source.split}:COLUMN"
    column = pick_column(source.path, first, source.column, how)
    documents: list[str] = []
    for row in itertools.chain([first], rows):
        documents += cut_documents(text_of_row(source.path, row, column, how), blank_lines)
        progress(f"reading {source.path}", min(len(documents), limit), limit)
        if len(documents) > limit:
            break
    if not documents:
        raise ConfigError(f"{source.path}: column {column!r} of split {source.split!r} holds no text; name another")
    return HubDocuments(tuple(documents[:limit]), column, len(documents) > limit)


def _rows(source: HubText) -> Iterable[Mapping[str, Any]]:
    """Open a dataset for streaming."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ConfigError(
            f"{source.path}: no such file or folder, and to read it from the Hugging Face hub the datasets package is "
            "missing; give another path, or pip install englishroom[hub]"
        ) from None
    named = {} if source.config is None else {"name": source.config}
    try:
        return datasets.load_dataset(source.path, split=source.split, streaming=True, **named)
    except Exception as error:  # the package raises many kinds, network errors among them
        raise _refused(source, error) from None


def _guarded(source: HubText, rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Yield rows; whatever goes wrong on the way (the network, a damaged file) becomes one line."""
    try:
        yield from rows
    except Exception as error:
        raise _refused(source, error) from None


def _refused(source: HubText, error: Exception) -> ConfigError:
    reason = one_line(" ".join(str(error).split())[:200]) or type(error).__name__
    where = "" if source.config is None else f", configuration {source.config!r}"
    return ConfigError(
        f"{source.path}: no such file or folder, nor to be had from the hub as a dataset{where}, split "
        f"{source.split!r} ({reason}); give a file, a folder, or OWNER/NAME[/CONFIGURATION][:SPLIT][:COLUMN]"
    )
