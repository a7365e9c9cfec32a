"""What ``--text`` names: files, folders, the ready corpus, the hub."""

from __future__ import annotations

import lzma
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.data import texts
from englishroom.data.corpus import cut_documents, replace_file, text_hash, write_documents
from englishroom.data.documents import read_documents
from englishroom.data.hub import HubDocuments, HubText
from englishroom.data.texts import HUB_DOCUMENTS, Text, open_text, part_file, text_identity
from englishroom.errors import ArtifactError, ConfigError


@pytest.fixture
def ready(monkeypatch, tmp_path: Path) -> Path:
    """Put a ready corpus in place whose parts hold their own names, and go to an empty folder."""
    folder, here = tmp_path / "ready", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    for part in ("fit", "choose", "report"):
        write_documents(part_file(folder, part), [part, "b"])
    monkeypatch.setattr(texts, "ready_folder", lambda: folder)
    monkeypatch.chdir(here)
    return folder


@pytest.fixture
def hub(monkeypatch) -> list[tuple[HubText, int]]:
    """Answer for the hub with two documents; the list holds what was asked for."""
    asked: list[tuple[HubText, int]] = []

    def read_hub(source: HubText, limit: int, progress, blank_lines) -> HubDocuments:
        asked.append((source, limit))
        return HubDocuments(("One.", "Two."), source.column or "text", source.split == "long")

    monkeypatch.setattr(texts, "read_hub", read_hub)
    return asked


def test_a_file_says_its_name_hash_and_size(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("One.<|endoftext|>Caf\u00e9.", encoding="utf-8")
    text = open_text(path)
    assert text == Text(str(path), ("One.", "Caf\u00e9."), text_hash(["One.", "Caf\u00e9."]), 4 + 6)
    assert open_text(str(path)) == text
    packed = tmp_path / "text.txt.xz"
    packed.write_bytes(lzma.compress(path.read_bytes()))
    assert open_text(packed).sha256 == text.sha256


def test_a_folder_is_its_text_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("Two.")
    write_documents(tmp_path / "a.txt.xz", ["One.", "One and a half."])
    (tmp_path / "README.md").write_text("no text")
    (tmp_path / ".c.txt").write_text("hidden")
    (tmp_path / "d.txt").mkdir()
    assert open_text(tmp_path).documents == ("One.", "One and a half.", "Two.")


def test_a_folder_of_tables_is_read_where_it_has_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "Two."}\n')
    (tmp_path / "a.csv").write_text("id,text\n1,One.\n")
    (tmp_path / "parts.json").write_text('{"format": "englishroom sample"}')
    (tmp_path / "c.tar.gz").write_bytes(b"no text")
    assert open_text(tmp_path).documents == ("One.", "Two.")
    (tmp_path / "c.txt").write_text("Three.")
    assert open_text(tmp_path).documents == ("Three.",), "tables beside a text are about it, as records of samples are"


def test_the_first_documents_only_and_the_name_says_so(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    write_documents(path, ["One.", "Two.", "Three."])
    text = open_text(path, max_documents=2)
    assert text.documents == ("One.", "Two.")
    assert text.name == f"{path} (first 2 documents)"
    assert text.sha256 == text_hash(["One.", "Two."])
    assert open_text(path, max_documents=3).name == str(path)
    with pytest.raises(ConfigError, match="--max-documents is 0, expected 1 or more"):
        open_text(path, max_documents=0)


def test_the_parts_of_the_ready_corpus(ready) -> None:
    for part in ("fit", "choose", "report"):
        text = open_text(f"sampled:{part}")
        assert (text.name, text.documents) == (f"sampled:{part}", (part, "b"))
    assert open_text("sampled") == open_text("sampled:report")
    with pytest.raises(
        ConfigError, match="sampled:test: the ready corpus has no part 'test', only fit, choose, report"
    ):
        open_text("sampled:test")
    part_file(ready, "fit").unlink()
    with pytest.raises(ArtifactError, match="sampled:fit: the ready corpus is missing from this installation"):
        open_text("sampled:fit")


def test_what_lies_at_the_path_comes_first(ready, hub) -> None:
    Path("sampled").mkdir()
    Path("sampled/mine.txt").write_text("Mine.")
    assert open_text("sampled").documents == ("Mine.",)
    assert open_text("sampled:fit").documents == ("fit", "b")
    Path("owner").mkdir()
    Path("owner/stories").write_text("Mine too.")
    assert open_text("owner/stories").documents == ("Mine too.",)
    assert hub == []


def test_hub_names(hub) -> None:
    for name, source in (
        ("owner/stories", HubText("owner/stories")),
        ("owner/stories:validation", HubText("owner/stories", split="validation")),
        ("owner/stories:train:story", HubText("owner/stories", column="story")),
        ("owner/wiki/small-raw-v1:test:the text", HubText("owner/wiki", "small-raw-v1", "test", "the text")),
    ):
        text = open_text(name)
        assert hub.pop() == (source, HUB_DOCUMENTS)
        assert text.documents == ("One.", "Two.")
    assert text.name == "owner/wiki/small-raw-v1:test:the text"
    assert open_text("owner/stories").name == "owner/stories:train:text"
    assert open_text("owner/stories:long", max_documents=2).name == "owner/stories:long:text (first 2 documents)"
    assert hub[-1][1] == 2


@pytest.mark.parametrize(
    "name", ["stories", "", "a/b/c/d", "owner/stories:train[:10%]", "https://there/it/is", "a\0b/c"]
)
def test_names_of_nothing(hub, name: str) -> None:
    with pytest.raises(ConfigError, match="no such text; give a text file, a folder of them, sampled"):
        open_text(name)
    assert hub == []


def test_a_missing_text_file_is_not_sought_on_the_hub(hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"data/stories.txt: no such text file"):
        open_text("data/stories.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match=r"no text file in this folder"):
        open_text(tmp_path / "folder")


def test_without_the_datasets_package_a_mistyped_path_is_told_as_such(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ConfigError, match=r"^data/storys: no such file or folder, and to read it from the Hugging Face"
    ):
        open_text("data/storys")


def test_identity_follows_content_not_place(tmp_path: Path) -> None:
    for name, content in (("a.txt", "One."), ("b.txt", "One."), ("c.txt", "Two.")):
        (tmp_path / name).write_text(content)
    a, b, c = (text_identity(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt"))
    assert a == b != c
    folder = text_identity(tmp_path)
    assert folder != a
    (tmp_path / "c.txt").write_text("Three.")
    assert text_identity(tmp_path) != folder
    names = [
        "owner/stories",
        "owner/stories:train:text",
        "owner/stories:test",
        "owner/stories/small",
        "sampled:nothing",
    ]
    hubs = {text_identity(name) for name in names[:-1]}
    assert len(hubs) == 4, "a hub dataset counts by its name, with no network"
    with pytest.raises(ConfigError, match="no part 'nothing'"):
        text_identity(names[-1])
    with pytest.raises(ArtifactError, match=r"gone.txt: no such text file"):
        text_identity(tmp_path / "gone.txt")


TIDY = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: "\n".join(cut_documents(text))).filter(bool)


@settings(deadline=None)
@given(st.lists(TIDY, min_size=1, max_size=5), st.sampled_from(["text.txt", "text.txt.xz"]))
def test_written_documents_are_read_again(tmp_path_factory, documents: list[str], name: str) -> None:
    path = tmp_path_factory.mktemp("text") / name
    write_documents(path, documents)
    assert read_documents(path) == documents
    assert os.listdir(path.parent) == [name]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "text.txt"
    replace_file(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="no space left on the disk"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["text.txt"]
