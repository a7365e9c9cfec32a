"""Resolve what ``--text`` names: the ready corpus, a file, a folder, or a dataset on the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from englishroom.data.corpus import read_documents, text_hash
from englishroom.data.hub import DEFAULT_SPLIT, HubText, Progress, read_hub
from englishroom.errors import ArtifactError, ConfigError

READY = "sampled"
PARTS = ("fit", "choose", "report")
"""The ready corpus has three parts without a common document: to fit on, to choose settings on, to report on."""
DEFAULT_PART = "report"
HUB_DOCUMENTS = 100_000
"""Documents read of a hub dataset where no other limit is given."""
SUFFIXES = (".txt", ".xz")
_HUB_NAME = re.compile(
    r"(?P<path>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+)(?::(?P<column>.+))?)?"
)
_HELP = (
    f"give a text file, a folder of them, {READY}[:PART], or a hub dataset OWNER/NAME[/CONFIGURATION][:SPLIT][:COLUMN]"
)


@dataclass(frozen=True)
class Text:
    """Documents to fit on or to be judged on.

    Attributes:
        name: what they were read from, with the part, split, column and limit that applied.
        sha256: hash of the documents in order, the identity of the text in every artefact.
        n_bytes: of the documents in UTF-8, separators left out.
    """

    name: str
    documents: tuple[str, ...]
    sha256: str
    n_bytes: int

    @staticmethod
    def of(name: str, documents: Sequence[str]) -> Text:
        """Make a text of documents at hand."""
        return Text(name, tuple(documents), text_hash(documents), sum(len(text.encode()) for text in documents))


def open_text(
    name: str | Path,
    progress: Progress = lambda _step, _done, _total: None,
    max_documents: int | None = None,
) -> Text:
    """Read a text by its name; what lies at that path comes before the ready corpus, and that before the hub.

    Args:
        name: a file (UTF-8, plain or ``.xz``); a folder, whose ``.txt`` and ``.xz`` files are read in the order of
            their names; ``sampled:fit``, ``sampled:choose`` or ``sampled:report``, parts of the ready corpus
            (``sampled`` is the last); or ``owner/name[/configuration][:split][:column]`` on the Hugging Face hub.
        max_documents: the first so many documents only; by default all, but 100,000 of a hub dataset.

    Raises:
        ConfigError: no such text, or a limit below one.
        ArtifactError: a file is missing, damaged, or holds no text.
    """
    name = _whole_name(name)
    if max_documents is not None and max_documents < 1:
        raise ConfigError(f"--max-documents is {max_documents}, expected 1 or more")
    if files := _files(name):
        documents = [document for file in files for document in read_documents(file)]
    else:
        source = _hub_source(name)
        limit = HUB_DOCUMENTS if max_documents is None else max_documents
        found = read_hub(source, limit, progress)
        config = "" if source.config is None else f"/{source.config}"
        full = f"{source.path}{config}:{source.split}:{found.column}"
        return Text.of(full + (f" (first {limit:,} documents)" if found.cut else ""), found.documents)
    if max_documents is not None and max_documents < len(documents):
        return Text.of(f"{name} (first {max_documents:,} documents)", documents[:max_documents])
    return Text.of(name, documents)


def text_identity(name: str | Path) -> str:
    """Return a hash of a text by what it is read from, cheap enough for every start of a resumable run (hex sha256).

    Files count by name (within a folder) and content. A hub dataset counts by its name alone, so that a run can go on
    without the network.

    Raises:
        ConfigError: no such text.
        ArtifactError: a file cannot be read.
    """
    name = _whole_name(name)
    parts: list[list[str]] = []
    for file in _files(name):
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror}); give a UTF-8 text file") from None
        parts.append([file.name if Path(name).is_dir() else "", content])
    if not parts:
        source = _hub_source(name)
        parts = [["hub", source.path, source.config or "", source.split, source.column or ""]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def ready_folder() -> Path:
    """Return where the ready corpus lies in the package."""
    return Path(str(resources.files("englishroom.data").joinpath("ready")))


def part_file(folder: Path, part: str) -> Path:
    """Return the file of one part of a corpus of three parts."""
    return folder / f"{part}.txt.xz"


def _whole_name(name: str | Path) -> str:
    """Name the part of the ready corpus where none is given."""
    name = str(name)
    return f"{READY}:{DEFAULT_PART}" if name.rstrip(":") == READY and not Path(name).exists() else name


def _files(name: str) -> list[Path]:
    """Return the files that a name stands for; none where it may be a hub dataset."""
    if not name:
        raise ConfigError(f"the name of the text is empty: no such text; {_HELP}")
    path = Path(name)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file() and p.name[0] != ".")
        if not files:
            raise ArtifactError(f"{path}: no .txt or .xz file in this folder; {_HELP}")
        return files
    if path.exists():
        return [path]
    base, _, part = name.partition(":")
    if base == READY:
        if part not in PARTS:
            raise ConfigError(f"{name}: the ready corpus has no part {part!r}, only {', '.join(PARTS)}")
        file = part_file(ready_folder(), part)
        if not file.exists():
            raise ArtifactError(
                f"{name}: the ready corpus is missing from this installation ({file}); install englishroom again, or "
                "make a text with englishroom sample"
            )
        return [file]
    return [path] if path.suffix in SUFFIXES else []


def _hub_source(name: str) -> HubText:
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name}: no such text; {_HELP}")
    return HubText(match["path"], match["config"], match["split"] or DEFAULT_SPLIT, match["column"])
