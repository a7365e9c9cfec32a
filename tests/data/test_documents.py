"""Documents of files: every format, read as a stream, within bounds, and as they are where blank lines are kept."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.data import documents as reading
from englishroom.data.corpus import SEPARATOR, cut_documents, write_documents
from englishroom.data.documents import read_documents, stream_documents
from englishroom.data.texts import open_text, parse_name, text_identity
from englishroom.errors import ArtifactError, ConfigError

SAID = ["\n\nOne.\n\n\nTwo. \n", "  Three\r\nFour.", "\ufeffFive \n  six", "\n"]
ROWS = [{"id": 1, "text": "One.\n\nTwo."}, {"id": 2, "text": "Caf\u00e9 <|endoftext|> Three."}, {"id": 3, "text": None}]
COLLAPSED = ["One.\nTwo.", "Caf\u00e9", "Three."]


def test_blank_lines_are_kept_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"  One.\n\n\nTwo. \n<|endoftext|>\n\n<|endoftext|>\nThree.\r\n  Four.\n\n")
    assert read_documents(path, "keep") == ["  One.\n\n\nTwo. ", "Three.\r\n  Four.\n"]
    assert cut_documents("  One.\n\nTwo. \n", "keep") == ["  One.\n\nTwo. \n"]
    text = open_text(path, blank_lines="keep", max_documents=1)
    assert text.name == f"{path} (first 1 documents, blank lines kept)"
    assert text.about()["blank_lines"] == "keep"
    assert parse_name(text.name) == (str(path), 1, "keep")
    assert open_text(path).about()["blank_lines"] == "collapse"
    assert open_text(path).sha256 != open_text(path, blank_lines="keep").sha256
    for name, parts in (("a (b)", (None, "collapse")), ("a (first 1,000 documents)", (1000, "collapse"))):
        assert parse_name(name) == (name.removesuffix(" (first 1,000 documents)"), *parts)


ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: SEPARATOR not in text)


@settings(deadline=None)
@given(st.lists(ANY, min_size=1, max_size=5), st.sampled_from(["text.txt", "text.txt.xz"]))
def test_what_is_written_is_read_as_it_was(tmp_path_factory, documents: list[str], name: str) -> None:
    path = tmp_path_factory.mktemp("text") / name
    write_documents(path, documents)
    assert read_documents(path, "keep") == documents


def test_what_a_model_says_is_read_as_it_was(tmp_path: Path) -> None:
    write_documents(tmp_path / "text.txt", SAID)
    assert read_documents(tmp_path / "text.txt", "keep") == SAID


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.")
    for how in ("collapse", "keep"):
        assert read_documents(path, how) == ["One."]
    table = tmp_path / "rows.csv"
    table.write_bytes(b"\xef\xbb\xbftext\r\nOne.\r\n")
    assert read_documents(table) == ["One."]


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of a name."""
    path = folder / name
    lines = "\n".join(json.dumps(row) for row in rows)
    kind = name.removesuffix(".xz").removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind in ("csv", "tsv"):
        with (folder / "plain").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
        data = (folder / "plain").read_bytes()
    else:
        data = (json.dumps(rows, indent=1) if kind == "json" else lines + "\n\n").encode()
    path.write_bytes({"xz": lzma.compress, "gz": gzip.compress}.get(name.rpartition(".")[2], bytes)(data))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"])
def test_tables_are_read_by_their_column_of_text(tmp_path: Path, kind: str) -> None:
    names = [f"rows.{kind}"] + ([f"rows.{kind}.{how}" for how in ("xz", "gz")] if kind != "parquet" else [])
    for name in names:
        path = written(tmp_path, name, ROWS)
        assert read_documents(path) == COLLAPSED
        assert read_documents(path, "keep")[0] == "One.\n\nTwo."
    path = written(tmp_path, f"other.{kind}", [{"title": "T", "story": "One."}])
    with pytest.raises(ConfigError, match=rf"{kind}: which column holds the text\? found title, story; name one as"):
        read_documents(path)
    assert open_text(f"{path}:story").documents == ("One.",)
    assert text_identity(f"{path}:story") != text_identity(f"{path}:title")
    with pytest.raises(ConfigError, match="no column 'tale', only title, story"):
        open_text(f"{path}:tale")


def test_json_in_other_shapes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 7)
    path = tmp_path / "rows.json"
    for data in (json.dumps(ROWS), "\n".join(map(json.dumps, ROWS)), " [ ] ", "[" + json.dumps(ROWS[0]) + " , ]"):
        path.write_text(data)
        rows = json.loads(data.replace(" , ]", "]")) if data.lstrip()[0] == "[" else ROWS
        assert list(stream_documents(path)) == [d for row in rows for d in cut_documents(row["text"] or "")]
    for data, said in (
        (json.dumps(ROWS)[:-1], "no JSON"),
        ('{"text": "One', "no JSON"),
        ('["One."]', "holds str where a row was expected"),
        ('{"text": ["One."]}', "column 'text' holds list, expected text"),
        ('{"text": "\\ud800"}', "holds half of a surrogate pair"),
        ("nonsense", "no JSON"),
    ):
        path.write_text(data)
        with pytest.raises((ArtifactError, ConfigError), match=rf"rows.json: {said}"):
            read_documents(path)
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"text": "One."}\n{"text": \n')
    with pytest.raises(ArtifactError, match=r"rows.jsonl: line 2 is no JSON"):
        read_documents(lines)


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.html", "a.zip", "a.htm.gz", "a.tar.xz", "a.zst", "A.PDF"])
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text all the same")
    with pytest.raises(ArtifactError, match=r"file holds no plain text; give UTF-8 text") as caught:
        open_text(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_damaged_tables_are_one_line(tmp_path: Path) -> None:
    files = {"a.parquet": b"PAR1", "a.csv": b'text\n"One', "a.gz": b"no", "a.csv.gz": b"\x1f\x8b\x08"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=r"(damaged Parquet|no CSV|cannot be read as text)"):
            read_documents(tmp_path / name)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    with path.open("w") as file:
        for number in range(40_000):
            file.write(f"Story {number}. {'word ' * 100}\n{SEPARATOR}\n")
        file.flush()
    with path.open("ab") as file:
        file.write(b"\xff")  # never reached
    tracemalloc.start()
    assert len(open_text(path, max_documents=2).documents) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak < 10_000_000, f"{peak:,} bytes of memory"
    with pytest.raises(ArtifactError, match=rf"byte 0xff at offset {path.stat().st_size - 1}"):
        open_text(path)


def test_a_small_file_that_grows_without_bound_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "UNCOMPRESSED_BYTES", 5_000_000)
    for name, pack in (("a.txt.xz", lzma.compress), ("a.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(b"One.<|endoftext|>" + bytes(20_000_000)))
        with pytest.raises(ArtifactError, match=r"more than 5,000,000 bytes when decompressed; give fewer"):
            read_documents(path)
    plain = tmp_path / "a.txt"
    plain.write_bytes(b"a" * 6_000_000)
    assert len(read_documents(plain)[0]) == 6_000_000


def test_a_pipe_or_a_device_is_never_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path, what in ((tmp_path / "pipe.txt", "a pipe"), (Path("/dev/zero"), "a device")):
        for read in (open_text, text_identity):
            with pytest.raises(ArtifactError, match=rf"is {what}, and texts are read from regular files"):
                read(path)
    (tmp_path / "b.txt").write_text("One.")
    assert open_text(tmp_path).documents == ("One.",), "of a folder, regular files only"
