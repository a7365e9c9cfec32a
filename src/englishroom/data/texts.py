"""Resolve what ``--text`` names: the ready corpus, a file, a folder, or a dataset on the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from englishroom.data.corpus import BlankLines, text_hash
from englishroom.data.documents import OTHER_FORMATS, TABLES, TEXT_SUFFIXES, check_regular, kind_of, stream_documents
from englishroom.data.hub import DEFAULT_SPLIT, HubText, read_hub
from englishroom.errors import ArtifactError, ConfigError
from englishroom.steps import Progress, silent

READY = "sampled"
PARTS = ("fit", "choose", "report")
"""The ready corpus has three parts without a common document: to fit on, to choose settings on, to report on."""
DEFAULT_PART = "report"
HUB_DOCUMENTS = 100_000
"""Documents read of a hub dataset where no other limit is given."""
_HUB_NAME = re.compile(
    r"(?P<path>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+)(?::(?P<column>.+))?)?"
)
_REMARKS = re.compile(
    r"(?P<name>.*?) \((?P<remarks>(?:first [\d,]+ documents|blank lines kept|[\d,]+ left out).*)\)", re.DOTALL
)
_FIRST = re.compile(r"first ([0-9,]{0,20}[0-9]) documents")
_KEPT = "blank lines kept"
_HELP = (
    f"give a text file, a folder of them, {READY}[:PART], or a hub dataset OWNER/NAME[/CONFIGURATION][:SPLIT][:COLUMN]"
)


@dataclass(frozen=True)
class Text:
    """Documents to fit on or to be judged on.

    Attributes:
        name: what they were read from, with the part, split, column and limit that applied, and what was left out.
        sha256: hash of the documents in order, the identity of the text in every artefact.
        n_bytes: of the documents in UTF-8, separators left out.
        blank_lines: whether white space around line ends was collapsed to one newline, or kept as it was.
        left_out: documents that cannot be spelled with the vocabulary in question.
    """

    name: str
    documents: tuple[str, ...]
    sha256: str
    n_bytes: int
    blank_lines: BlankLines = "collapse"
    left_out: int = 0

    @staticmethod
    def of(name: str, documents: Sequence[str], blank_lines: BlankLines = "collapse", left_out: int = 0) -> Text:
        """Make a text of documents at hand."""
        n_bytes = sum(len(text.encode()) for text in documents)
        return Text(name, tuple(documents), text_hash(documents), n_bytes, blank_lines, left_out)

    @staticmethod
    def joined(texts: Sequence[Text]) -> Text:
        """Lay texts end to end; one text stays what it is."""
        if len(texts) == 1:
            return texts[0]
        documents = [document for text in texts for document in text.documents]
        kept: BlankLines = "keep" if any(text.blank_lines == "keep" for text in texts) else "collapse"
        return Text.of(" + ".join(text.name for text in texts), documents, kept, sum(text.left_out for text in texts))

    def without(self, documents: frozenset[str]) -> Text:
        """Leave out some documents, and say so in the name."""
        kept = [document for document in self.documents if document not in documents]
        left_out = len(self.documents) - len(kept)
        if not left_out:
            return self
        name = _with_remarks(self.name, [f"{left_out:,} left out for characters that the vocabulary lacks"])
        return Text.of(name, kept, self.blank_lines, self.left_out + left_out)

    def about(self) -> dict[str, Any]:
        """Name the text in an artefact."""
        about = {"name": self.name, "sha256": self.sha256, "documents": len(self.documents)}
        return about | {"blank_lines": self.blank_lines} | ({"left_out": self.left_out} if self.left_out else {})


def open_text(
    name: str | Path,
    progress: Progress = silent,
    max_documents: int | None = None,
    blank_lines: BlankLines = "collapse",
) -> Text:
    """Read a text by its name; what lies at that path comes before the ready corpus, and that before the hub.

    Args:
        name: a file (see :func:`~englishroom.data.documents.stream_documents`), with ``:column`` where it is a table;
            a folder, whose text files are read in the order of their names; ``sampled:fit``, ``sampled:choose`` or
            ``sampled:report``, parts of the ready corpus (``sampled`` is the last); or
            ``owner/name[/configuration][:split][:column]`` on the Hugging Face hub.
        max_documents: the first so many documents only, and no more is read; by default all, but 100,000 of a hub
            dataset.
        blank_lines: whether white space around line ends is collapsed or kept.

    Raises:
        ConfigError: no such text, or a limit below one.
        ArtifactError: a file is missing, damaged, or holds no text.
    """
    name = _whole_name(name)
    if max_documents is not None and max_documents < 1:
        raise ConfigError(f"--max-documents is {max_documents}, expected 1 or more")
    if files := _files(name):
        limit = max_documents
        documents = list(islice(_stream(files, blank_lines), None if limit is None else limit + 1))
        cut = limit is not None and len(documents) > limit
    else:
        source = _hub_source(name)
        limit = HUB_DOCUMENTS if max_documents is None else max_documents
        found = read_hub(source, limit, progress, blank_lines)
        config = "" if source.config is None else f"/{source.config}"
        name, documents, cut = f"{source.path}{config}:{source.split}:{found.column}", list(found.documents), found.cut
    remarks = [f"first {limit:,} documents"] if cut else []
    remarks += [_KEPT] if blank_lines == "keep" else []
    return Text.of(_with_remarks(name, remarks), documents[:limit], blank_lines)


def check_name(name: str | Path) -> None:
    """Refuse a text that is not there, before any work is done; a dataset on the hub is not asked for.

    Raises:
        ConfigError, ArtifactError: as for :func:`open_text`.
    """
    whole = _whole_name(name)
    files = _files(whole)
    for file, _ in files:
        check_regular(file)
    if not files:
        _hub_source(whole)


def parse_name(name: str) -> tuple[str, int | None, BlankLines]:
    """Take the name of a text apart: what :func:`open_text` is to open, its limit, and what became of blank lines."""
    match = _REMARKS.fullmatch(name)
    if match is None:
        return name, None, "collapse"
    first = _FIRST.match(match["remarks"])
    limit = int(first[1].replace(",", "")) if first else None
    return match["name"], limit, "keep" if _KEPT in match["remarks"] else "collapse"


def _with_remarks(name: str, remarks: Sequence[str]) -> str:
    if not remarks:
        return name
    before = _REMARKS.fullmatch(name)
    return f"{name[:-1]}, {', '.join(remarks)})" if before else f"{name} ({', '.join(remarks)})"


def _stream(files: Sequence[tuple[Path, str | None]], blank_lines: BlankLines) -> Iterator[str]:
    """Yield the documents of files, one file after the other.

    Raises:
        ArtifactError: a file holds no text.
    """
    for file, column in files:
        empty = True
        for document in stream_documents(file, blank_lines, column):
            empty = False
            yield document
        if empty:
            raise ArtifactError(f"{file}: no text in it; give a file with at least one document")


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
    for file, column in _files(name):
        check_regular(file)
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror}); give a UTF-8 text file") from None
        place = file.name if Path(name).is_dir() else ""
        parts.append([place, content] if column is None else [place, content, column])
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


def _files(name: str) -> list[tuple[Path, str | None]]:
    """Return the files that a name stands for, with the columns to read; none where it may be a hub dataset."""
    if not name:
        raise ConfigError(f"the name of the text is empty: no such text; {_HELP}")
    path = Path(name)
    if path.is_dir():
        held = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
        read = [p for p in held if kind_of(p) not in {*TABLES, *OTHER_FORMATS} and p.suffix in TEXT_SUFFIXES]
        read = read or [p for p in held if kind_of(p) in TABLES and kind_of(p) != ".json"]  # often of other things
        if not read:
            raise ArtifactError(f"{path}: no text file in this folder, and no table of texts; {_HELP}")
        return [(file, None) for file in read]
    if path.exists():
        return [(path, None)]
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
        return [(file, None)]
    table, _, column = name.rpartition(":")
    if column and Path(table).is_file() and any(suffix in TABLES for suffix in Path(table).suffixes):
        return [(Path(table), column)]
    return [(path, None)] if path.suffix in (*TEXT_SUFFIXES, *TABLES) else []


def _hub_source(name: str) -> HubText:
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name}: no such text; {_HELP}")
    return HubText(match["path"], match["config"], match["split"] or DEFAULT_SPLIT, match["column"])
