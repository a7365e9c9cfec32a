"""Files of sampled documents: written resumably, with a record of where they come from beside them.

1. Every document is appended, as it is sampled, to FILE.part, whose first line says what is being sampled.
2. When there are enough, FILE and FILE.json (parts.json for a corpus of three parts) are put in their places.
3. FILE.part is removed. A run that died before goes on after the last whole line of FILE.part.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

import englishroom
from englishroom.data import corpus
from englishroom.data.texts import PARTS, part_file
from englishroom.disk import locked, make_folder, replace_files, translated
from englishroom.errors import ConfigError
from englishroom.evaluate.config import SampleOptions, SampleTextConfig
from englishroom.evaluate.sample import samples
from englishroom.manifest import versions_of
from englishroom.plain import to_json
from englishroom.steps import Progress, silent
from englishroom.talker import Talker

FORMAT = "englishroom sample"
PARTS_RECORD = "parts.json"
SUFFIXES = (".txt", ".xz")
DOCUMENTS = 1000
"""Documents of a text where no number is given."""
_LINE_END = re.compile(r"\s*\n\s*")


@dataclass(frozen=True)
class SampledModel:
    """What is sampled from: a model or a room, by name and hash."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Drawn:
    """A sampled document as it is kept in FILE.part.

    Attributes:
        text: as the talker said it, up to a separator that it spelled out; it may be empty.
        tokens: as sampled, the stop token included.
        commonest: share of the commonest token, the stop token left out.
        separated: whether it spelled out a separator.
    """

    text: str
    tokens: int
    finished: bool
    commonest: float = 0.0
    separated: bool = False


def write_sample(
    talker: Talker, source: SampledModel, config: SampleTextConfig, out: Path, progress: Progress = silent
) -> dict[str, Any]:
    """Sample documents into a text file; run again to go on after a kill.

    Documents without text are left out, and counted. A file that this function wrote before is replaced.

    Args:
        out: ``.txt`` or ``.xz``; the record goes to the same name with ``.json`` added.

    Returns:
        The record.

    Raises:
        ConfigError: an option is out of range, something else stands at ``out``, or an unfinished run with other
            settings, or one that is still running.
    """
    config.validate()
    check_file(out)
    n_documents = config.documents or DOCUMENTS
    with _drawing(talker, source, config.drawing, n_documents, out, progress) as drawn:
        documents, counts = _select(drawn, config)
        if not documents:
            raise ConfigError(f"{source.name}: none of {n_documents:,} sampled documents has text; nothing to write")
        record = _record(source, config) | {"file": out.name} | counts
        texts = {out.name: corpus.documents_to_bytes(out.name, documents)}
        replace_files(out.absolute().parent, texts | {_record_path(out).name: to_json(record)})
    return record


def write_parts(
    talker: Talker, source: SampledModel, config: SampleTextConfig, out: Path, progress: Progress = silent
) -> dict[str, Any]:
    """Sample a corpus of three parts without a common document, to fit on, to choose on and to report on.

    The parts are sampled with the given seed and the two after it. A document whose words stand in an earlier part
    is dropped from the later one. Run again to go on after a kill.

    Args:
        config: its ``parts`` are the documents to sample for each part.
        out: folder for ``fit.txt.xz``, ``choose.txt.xz``, ``report.txt.xz`` and the record, ``parts.json``.

    Returns:
        The record.

    Raises:
        ConfigError: as for :func:`write_sample`.
    """
    config.validate()
    check_folder(out)
    parts: dict[str, Any] = {}
    texts: dict[Path, list[str]] = {}
    earlier = np.empty(0, dtype=np.uint64)
    with ExitStack() as stack:
        for i, (part, size) in enumerate(zip(PARTS, config.parts or (), strict=True)):
            file, seeded = part_file(out, part), replace(config.drawing, seed=config.drawing.seed + i)
            drawn = stack.enter_context(_drawing(talker, source, seeded, size, file, progress))
            texts[file], counts = _select(drawn, config, earlier)
            if not texts[file]:
                raise ConfigError(f"{source.name}: none of the {size:,} documents sampled for {part!r} can be used")
            earlier = np.union1d(earlier, corpus.document_marks(texts[file]))
            parts[part] = {"file": file.name, "seed": seeded.seed} | counts
        record = _record(source, config) | {"same_document": corpus.MARKS_FORM, "parts": parts}
        files = {file.name: corpus.documents_to_bytes(file.name, documents) for file, documents in texts.items()}
        replace_files(out, files | {PARTS_RECORD: to_json(record)})
    return record


def check_file(out: Path) -> None:
    """Refuse a place for a sampled text before any work is done for it.

    Raises:
        ConfigError: the name does not end in .txt or .xz, or something that is no sampled text stands there.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"{out}: expected a name that ends in .txt or .xz; choose another --out")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; choose another --out")
    if out.exists() and not (_is_ours(_record_path(out)) or _is_ours(_part_path(out))):
        raise ConfigError(f"{out}: is there already, and not written by englishroom sample; choose another --out")


def check_folder(out: Path) -> None:
    """Refuse a place for a corpus of three parts before any work is done for it.

    Raises:
        ConfigError: a file stands there, or a folder with a text of that name that is no sampled one.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file, expected a folder for the three parts; choose another --out")
    if not _is_ours(out / PARTS_RECORD):
        for file in (part_file(out, part) for part in PARTS):
            if file.exists() and not _is_ours(_part_path(file)):
                raise ConfigError(
                    f"{file}: is there already, and not written by englishroom sample; choose another --out"
                )


def _is_ours(path: Path) -> bool:
    """Say whether a record, or a FILE.part by its first line, is of this module."""
    try:
        data = path.read_bytes()
        values = json.loads(data.partition(b"\n")[0] if path.name.endswith(".part") else data)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT


@contextmanager
def _drawing(
    talker: Talker, source: SampledModel, options: SampleOptions, n_documents: int, out: Path, progress: Progress
) -> Iterator[list[Drawn]]:
    """Yield the drawn documents, those of FILE.part first, and remove FILE.part when they have been used."""
    make_folder(out.absolute().parent)
    path = _part_path(out)
    about = {"format": FORMAT, "englishroom": englishroom.__version__, "source": asdict(source)}
    heading = json.dumps(about | asdict(options))
    with locked(out), _opened(path) as file:
        drawn = _read_part(file, path, heading)
        progress(f"sampling {out.name}", min(len(drawn), n_documents), n_documents)
        for sample in samples(talker, range(len(drawn), n_documents), options):
            text, separator, _ = sample.text.partition(corpus.SEPARATOR)
            length = len(sample.tokens)
            commonest = max(Counter(sample.tokens).values()) / length if length else 0.0
            drawn.append(Drawn(text, length + sample.finished, sample.finished, commonest, bool(separator)))
            with translated(path):
                file.write(json.dumps(asdict(drawn[-1])).encode() + b"\n")
                if len(drawn) % 16 == 0 or len(drawn) == n_documents:
                    file.flush()
            progress(f"sampling {out.name}", len(drawn), n_documents)
        yield drawn[:n_documents]
        path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open FILE.part to go on with it; what could not be written when it is closed was told already."""
    with translated(path):
        file = path.open("ab+")
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _read_part(file: IO[bytes], path: Path, heading: str) -> list[Drawn]:
    """Read the whole lines of FILE.part, and leave it ready for the next one.

    Raises:
        ConfigError: it belongs to other settings, or is no such file.
    """
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):  # the writer died in the middle of it
        file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    if not lines:
        file.write(heading.encode() + b"\n")
        return []
    if lines[0].decode(errors="replace").rstrip("\n") != heading:
        raise ConfigError(f"{path}: an unfinished sample of another model, seed or settings; delete it or change --out")
    try:
        return [Drawn(**json.loads(line)) for line in lines[1:]]
    except (ValueError, TypeError):
        raise ConfigError(f"{path}: damaged; delete it to start again") from None


def _select(drawn: Sequence[Drawn], config: SampleTextConfig, earlier: Any = ()) -> tuple[list[str], dict[str, Any]]:
    """Return the documents to write, and the counts that say what became of the others."""
    white_space = _white_space(drawn)
    drawn = [replace(one, text="".join(corpus.cut_documents(one.text, config.blank_lines))) for one in drawn]
    kept = [document for document in drawn if document.text and (document.finished or config.unfinished == "keep")]
    fresh = ~np.isin(corpus.marks_in_order([document.text for document in kept]), earlier)
    documents = [document for document, new in zip(kept, fresh, strict=True) if new]
    texts = [document.text for document in documents]
    counts = {
        "sampled_documents": len(drawn),
        "sampled_tokens": sum(document.tokens for document in drawn),
        "sampled_unfinished": sum(not document.finished for document in drawn),
        "white_space": white_space,
        "sampled_different": len({document.text for document in drawn}),
        "sampled_commonest_token": round(sum(document.commonest for document in drawn) / len(drawn), 4),
        "cut_at_separator": sum(document.separated for document in drawn),
        "dropped_empty": sum(not document.text for document in drawn),
        "dropped_unfinished": sum(bool(d.text) and not d.finished for d in drawn) if config.unfinished == "drop" else 0,
        "dropped_in_earlier_part": int((~fresh).sum()),
        "documents": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
        "text_sha256": corpus.text_hash(texts),
        "unfinished": " ".join(str(i) for i, document in enumerate(documents) if not document.finished),
    }
    return texts, counts


def _white_space(drawn: Sequence[Drawn]) -> dict[str, float]:
    """Return the shares of line ends, of beginnings and of ends of documents that collapsing would change."""
    ends = [end for document in drawn for end in _LINE_END.findall(document.text.strip())]
    finished = [document for document in drawn if document.finished]
    changed = {
        "line_ends": [end != "\n" for end in ends],
        "beginnings": [document.text[:1].isspace() for document in drawn],
        "ends": [document.text[-1:].isspace() for document in finished],
    }
    return {place: round(sum(found) / max(1, len(found)), 4) for place, found in changed.items()}


def _record(source: SampledModel, config: SampleTextConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": asdict(source),
        **asdict(config.drawing),
        "unfinished_documents": config.unfinished,
        "blank_lines": config.blank_lines,
        "versions": versions_of("numpy", "torch"),
    }


def _record_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _part_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")
