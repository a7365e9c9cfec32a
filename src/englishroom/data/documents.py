"""Read the documents of a file as a stream: plain text, JSON, JSON lines, CSV or Parquet, compressed or not.

1. Look at the name: the format, and how it is compressed. What is named as another format is refused.
2. Read the file piece by piece, so that whoever needs only the first documents reads no more.
3. Cut what is read at the separators; of a table, take the column of texts.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import lzma
import re
import stat
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from englishroom.data.corpus import BYTE_ORDER_MARK, SEPARATOR, BlankLines, cut_documents, tidy
from englishroom.errors import ArtifactError, ConfigError, EnglishRoomError

DEFAULT_COLUMN = "text"
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSED = (".xz", ".gz")
TEXT_SUFFIXES = (".txt", *COMPRESSED)
"""How the names of files of plain text end, that they are known by where no file is."""
# fmt: off
OTHER_FORMATS = frozenset((
    ".7z", ".arrow", ".avi", ".bin", ".bmp", ".bz2", ".db", ".doc", ".docx", ".duckdb", ".epub", ".feather",
    ".gguf", ".gif", ".h5", ".hdf5", ".htm", ".html", ".ipynb", ".jpeg", ".jpg", ".mobi", ".mp3", ".mp4", ".npy",
    ".npz", ".odt", ".onnx", ".orc", ".pdf", ".pickle", ".pkl", ".png", ".ppt", ".pptx", ".pt", ".pth", ".rar",
    ".rtf", ".safetensors", ".sqlite", ".sqlite3", ".svg", ".tar", ".tgz", ".wav", ".webp", ".xhtml", ".xls",
    ".xlsx", ".xml", ".yaml", ".yml", ".zip", ".zst",
))
# fmt: on
"""Formats that hold no plain text: read as such, their markup would be scored."""
CHUNK_BYTES = 2**20
UNCOMPRESSED_BYTES = 2**31
"""More than that is not read of a compressed file, which may be small and grow without bound."""
_BETWEEN_VALUES = re.compile(r"[\s,]*")
FORMATS = (
    f"give UTF-8 text (.txt), or a table with a column of text ({', '.join(TABLES)}), plain or "
    f"{' or '.join(COMPRESSED)}"
)


def read_documents(path: Path, blank_lines: BlankLines = "collapse") -> list[str]:
    """Read all documents of a file; see :func:`stream_documents`.

    Raises:
        ArtifactError: as there, or the file holds no text.
    """
    documents = list(stream_documents(path, blank_lines))
    if not documents:
        raise ArtifactError(f"{path}: no text in it; give a file with at least one document")
    return documents


def stream_documents(path: Path, blank_lines: BlankLines = "collapse", column: str | None = None) -> Iterator[str]:
    """Yield the documents of a file, and read no more of it than is asked for.

    Plain text is UTF-8, a byte-order mark passed over, its documents separated by ``<|endoftext|>``; a file without
    separators is one document. Of a table, each row is a document, or more where its text has separators.

    Args:
        column: of a table; by default ``text``, or the only column that holds text.

    Raises:
        ArtifactError: the file is missing, damaged, of another format, no regular file, or grows too large.
        ConfigError: the column is missing, or there are several to choose from.
    """
    kind = kind_of(path)
    if kind in OTHER_FORMATS:
        raise ArtifactError(f"{path}: a {kind} file holds no plain text; {FORMATS}")
    if column is not None and kind not in TABLES:
        raise ConfigError(f"{path}: plain text has no columns, and column {column!r} is asked for; leave it out")
    check_regular(path)
    if kind == ".parquet":
        if path.suffix.lower() != kind:
            raise ArtifactError(f"{path}: Parquet is compressed inside, and is read as plain .parquet; decompress it")
        for text in _of_column(path, _parquet_rows(path, column), column):
            yield from cut_documents(text, blank_lines)
        return
    with closing(_pieces(path)) as pieces:
        if kind in TABLES:
            rows = {".csv": _csv_rows, ".tsv": _csv_rows, ".json": _json_rows}.get(kind, _json_line_rows)
            for text in _of_column(path, rows(path, pieces), column):
                yield from cut_documents(text, blank_lines)
        else:
            for at, part in enumerate(_between_separators(pieces)):
                if document := tidy(part, blank_lines, after=at > 0, before=True):
                    yield document


def kind_of(path: Path) -> str:
    """Return the suffix that says what is in a file, compressed or not: ``.csv`` of ``stories.csv.xz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    inner = suffixes[:-1] if suffixes and suffixes[-1] in COMPRESSED else suffixes
    return inner[-1] if inner else ""


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: a pipe or a device is never waited on.

    Raises:
        ArtifactError: the file is missing, or something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such text file; {FORMATS}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as text ({error}); {FORMATS}") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISDIR: "a folder", stat.S_ISSOCK: "a socket"}
        what = next((name for is_one, name in kinds.items() if is_one(mode)), "a device")
        raise ArtifactError(f"{path}: is {what}, and texts are read from regular files; write the text to a file first")


def pick_column(where: str, row: Mapping[str, Any], named: str | None, how: str) -> str:
    """Return the named column, or the one called ``text``, or the only one that holds text.

    Args:
        how: how a column is named.

    Raises:
        ConfigError: there is no such column, or more than one may be meant.
    """
    listed = ", ".join(map(str, row))[:200]
    if named is not None:
        if named not in row:
            raise ConfigError(f"{where}: no column {named!r}, only {listed}; name one of these")
        return named
    of_text = [name for name, value in row.items() if isinstance(value, str)]
    if DEFAULT_COLUMN in row:
        return DEFAULT_COLUMN
    if len(of_text) == 1:
        return of_text[0]
    raise ConfigError(f"{where}: which column holds the text? found {listed}; name one as {how}")


def text_of_row(where: str, row: Mapping[str, Any], column: str, how: str) -> str:
    """Return the text of a row; a row without one is empty.

    Raises:
        ConfigError: something else than text stands there.
        ArtifactError: the text is none that UTF-8 can hold.
    """
    found = row.get(column)
    if found is not None and not isinstance(found, str):
        raise ConfigError(f"{where}: column {column!r} holds {type(found).__name__}, expected text; name one as {how}")
    if found and not found.isascii() and any("\ud800" <= c <= "\udfff" for c in found):
        raise ArtifactError(f"{where}: holds half of a surrogate pair, which is no character; write it again as UTF-8")
    return found or ""


def _of_column(path: Path, rows: Iterable[Mapping[str, Any]], column: str | None) -> Iterator[str]:
    how = f"{path}:COLUMN"
    for row in rows:
        column = column if column is not None and column in row else pick_column(str(path), row, column, how)
        yield text_of_row(str(path), row, column, how)


def _pieces(path: Path) -> Generator[str]:
    """Yield the text of a file piece by piece.

    Raises:
        ArtifactError: it is damaged, not UTF-8, or a compressed file that grows too large.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = held = 0
    try:
        with path.open("rb") as raw, _uncompressed(path, raw) as file:
            while True:
                chunk = file.read(CHUNK_BYTES)
                held = len(decoder.getstate()[0])
                text = decoder.decode(chunk, final=not chunk)
                if text:
                    yield text.removeprefix(BYTE_ORDER_MARK) if done == 0 else text
                if not chunk:
                    return
                done += len(chunk)
                if done > UNCOMPRESSED_BYTES and path.suffix.lower() in COMPRESSED:
                    raise ArtifactError(
                        f"{path}: more than {UNCOMPRESSED_BYTES:,} bytes when decompressed; give fewer with "
                        "--max-documents, or decompress it to a file of its own, which may be of any size"
                    )
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"{path}: not UTF-8 text: byte {error.object[error.start]:#04x} at offset {done - held + error.start}; "
            "convert it to UTF-8 (for example with iconv) first"
        ) from None
    except (OSError, lzma.LZMAError, EOFError, zlib.error) as error:
        raise ArtifactError(f"{path}: cannot be read as text ({error}); {FORMATS}") from None


def _uncompressed(path: Path, raw: BinaryIO) -> BinaryIO | lzma.LZMAFile | gzip.GzipFile:
    match path.suffix.lower():
        case ".xz":
            return lzma.open(raw)
        case ".gz":
            return gzip.open(raw)
        case _:
            return raw


def _between_separators(pieces: Iterable[str]) -> Iterator[str]:
    """Yield what stands before, between and after the separators."""
    held: list[str] = []
    tail = ""  # may be the beginning of a separator
    for piece in pieces:
        *whole, rest = (tail + piece).split(SEPARATOR)
        for part in whole:
            yield "".join([*held, part])
            held = []
        cut = max(0, len(rest) - len(SEPARATOR) + 1)
        held.append(rest[:cut])
        tail = rest[cut:]
    yield "".join([*held, tail])


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    r"""Yield lines with their line ends, cut at \n alone."""
    held: list[str] = []
    for piece in pieces:
        *whole, rest = piece.split("\n")
        for line in whole:
            yield "".join([*held, line, "\n"])
            held = []
        held.append(rest)
    if rest := "".join(held):
        yield rest


def _json_line_rows(path: Path, pieces: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_lines(pieces), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ArtifactError(f"{path}: line {number} is no JSON ({error}); {FORMATS}") from None
            yield _object(path, row)


def _json_rows(path: Path, pieces: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list, or those that stand one after the other."""
    decoder, pieces = json.JSONDecoder(), iter(pieces)
    held, at, in_list = "", 0, False
    while True:
        at = _BETWEEN_VALUES.match(held, at).end()  # pyright: ignore[reportOptionalMemberAccess]
        if at < len(held) and not in_list and held[at] == "[":
            in_list, at = True, at + 1
            continue
        if in_list and held[at : at + 1] == "]":
            return
        try:
            row, at = decoder.raw_decode(held, at)
        except (ValueError, RecursionError) as error:
            held, at = held[at:], 0
            more = list(_at_least(pieces, len(held)))
            if not more:
                if held or in_list:
                    raise ArtifactError(f"{path}: no JSON ({error}); {FORMATS}") from None
                return
            held += "".join(more)
        else:
            yield _object(path, row)


def _at_least(pieces: Iterator[str], size: int) -> Iterator[str]:
    """Yield pieces until they have so many characters, or one if that is none."""
    seen = 0
    for piece in pieces:
        yield piece
        seen += len(piece)
        if seen >= size:
            return


def _object(path: Path, row: Any) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise ArtifactError(
            f"{path}: holds {type(row).__name__} where a row was expected, an object with a column of text; {FORMATS}"
        )
    return row


def _csv_rows(path: Path, pieces: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Yield rows by the names in the first line."""
    csv.field_size_limit(UNCOMPRESSED_BYTES)
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    try:
        yield from csv.DictReader(_lines(pieces), delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise ArtifactError(f"{path}: no {'TSV' if delimiter == chr(9) else 'CSV'} ({error}); {FORMATS}") from None


def _parquet_rows(path: Path, column: str | None) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            row = {f.name: "" if pa.types.is_string(f.type) or pa.types.is_large_string(f.type) else 0 for f in schema}
            chosen = pick_column(str(path), row, column, f"{path}:COLUMN")
            for batch in file.iter_batches(batch_size=256, columns=[chosen]):
                yield from batch.to_pylist()
    except EnglishRoomError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged Parquet ({error}); {FORMATS}") from None
