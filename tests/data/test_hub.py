"""Hub datasets, read through a stand-in for the ``datasets`` package, and through the real one where there is one."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from englishroom.data.hub import HubText, read_hub
from englishroom.errors import ConfigError

DATASETS: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {
    ("owner/stories", None, "train"): [{"id": i, "text": f" Story {i}.\n\n\nEnd. "} for i in range(20)],
    ("owner/stories", None, "validation"): [{"id": 0, "text": "Held out."}],
    ("owner/prose", "small", "train"): [
        {"id": 1, "prose": "One."},
        {"id": 2, "prose": None},
        {"id": 3, "prose": "Two."},
    ],
    ("owner/pairs", None, "train"): [{"question": "Why?", "answer": "So."}],
    ("owner/marked", None, "train"): [{"text": "One.<|endoftext|>Two."}, {"text": "  "}],
    ("owner/empty", None, "train"): [],
    ("owner/blank", None, "train"): [{"text": " "}],
}


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put a stand-in for the package in place; the list grows by a row at each one that is read."""
    read: list[int] = []

    def load_dataset(path: str, name: str | None = None, *, split: str | None = None, streaming: bool = False) -> Any:
        assert streaming, "nothing is fetched as a whole"
        assert split is not None
        if not any(key[0] == path for key in DATASETS):
            raise FileNotFoundError(f"Dataset '{path}' doesn't exist on the Hub\nor cannot be\x1b[2J accessed.")
        if (path, name, split) not in DATASETS:
            raise ValueError(f'Bad split: {split}. Available splits: ["train"]')

        def rows() -> Iterator[dict[str, Any]]:
            for i, row in enumerate(DATASETS[path, name, split]):
                read.append(i)
                yield row

        return rows()

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return read


def test_rows_are_streamed_up_to_the_limit(rows_read) -> None:
    seen = []
    found = read_hub(HubText("owner/stories"), 3, lambda *said: seen.append(said))
    assert found.documents == ("Story 0.\nEnd.", "Story 1.\nEnd.", "Story 2.\nEnd.")
    assert (found.column, found.cut) == ("text", True)
    assert rows_read == [0, 1, 2, 3], "one more tells that there is more"
    assert seen[-1] == ("reading owner/stories", 3, 3)
    whole = read_hub(HubText("owner/stories"), 20)
    assert (len(whole.documents), whole.cut) == (20, False)


def test_splits_columns_and_configurations(rows_read) -> None:
    assert read_hub(HubText("owner/stories", split="validation"), 9).documents == ("Held out.",)
    found = read_hub(HubText("owner/prose", "small"), 9)
    assert (found.documents, found.column) == (("One.", "Two."), "prose")
    assert read_hub(HubText("owner/pairs", column="answer"), 9).documents == ("So.",)
    assert read_hub(HubText("owner/marked"), 9).documents == ("One.", "Two."), "rows are cut where documents end"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            HubText("owner/none"),
            "owner/none: no such file or folder, nor to be had from the hub as a dataset, split 'train' "
            "(Dataset 'owner/none' doesn't exist on the Hub or cannot be\\x1b[2J accessed.); give a file, a folder, or",
        ),
        (HubText("owner/stories", split="tset"), "split 'tset' (Bad split: tset. Available splits"),
        (HubText("owner/prose", "big"), "as a dataset, configuration 'big', split 'train'"),
        (
            HubText("owner/pairs"),
            "owner/pairs: which column holds the text? found question, answer; name one as owner/",
        ),
        (HubText("owner/pairs", column="text"), "owner/pairs: no column 'text', only question, answer; name one of"),
        (HubText("owner/stories", column="id"), "owner/stories: column 'id' holds int, expected text; name one as"),
        (HubText("owner/empty"), "owner/empty: split 'train' has no rows; name another as OWNER/NAME:SPLIT"),
        (HubText("owner/blank"), "owner/blank: column 'text' of split 'train' holds no text"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(rows_read, source: HubText, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_hub(source, 9)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_failure_on_the_way_is_said_in_one_line(monkeypatch) -> None:
    def load_dataset(path: str, *, split: str, streaming: bool) -> Iterator[dict[str, str]]:
        yield {"text": "One."}
        raise ConnectionError

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    with pytest.raises(ConfigError, match=r"owner/stories: .*\(ConnectionError\)"):
        read_hub(HubText("owner/stories"), 9)


def test_without_the_package_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"datasets package is missing; .* pip install englishroom\[hub\]"):
        read_hub(HubText("owner/stories"), 9)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the datasets package is not installed")
def test_the_real_package_reads_a_folder(tmp_path: Path) -> None:
    rows = [{"n": i, "story": f"Story {i}.\n\nEnd."} for i in range(5)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_hub(HubText(str(tmp_path)), 3)
    assert (found.documents, found.cut) == (("Story 0.\nEnd.", "Story 1.\nEnd.", "Story 2.\nEnd."), True)
    with pytest.raises(ConfigError, match=r"split 'validation' \(Bad split"):
        read_hub(HubText(str(tmp_path), split="validation"), 3)
