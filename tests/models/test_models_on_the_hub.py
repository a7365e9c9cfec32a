"""What is fetched from the hub: the files that are read, from the top folder, in one form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from englishroom.data.hf_tokenizer_files import GIVE_ONE
from englishroom.errors import ConfigError
from englishroom.pipeline import open_target
from tiny import make_gpt2, make_llama, make_llama2c


class Hub:
    """A hub of one repository, which keeps account of what is fetched."""

    def __init__(self, repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository, self.cache = repository, cache
        self.fetched: set[str] = set()
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def download(self, name: str, allow_patterns: list[str], revision: str | None = None) -> str:
        assert name == "owner/model"
        assert revision in (None, self.cache.name)
        self.cache.mkdir(exist_ok=True)
        paths = [str(p.relative_to(self.repository)) for p in self.repository.rglob("*") if p.is_file()]
        for path in filter_repo_objects(paths, allow_patterns=allow_patterns):
            self.fetched.add(path)
            (self.cache / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repository / path, self.cache / path)
        return str(self.cache)


def published(folder: Path) -> Path:
    """Write a model as repositories have it: other forms, code, and checkpoints in folders beside it."""
    make_gpt2(folder)
    for name in ("model.bin", "handler.py", "flax_model.msgpack", "pytorch_model.bin", "training_args.json"):
        (folder / name).write_bytes(b"not needed")
    shutil.copytree(folder, folder / "checkpoint-100")
    shutil.copytree(folder / "checkpoint-100", folder / "onnx")
    return folder


def test_only_files_that_are_read_are_fetched_and_none_from_folders_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub = Hub(published(tmp_path / "repository"), tmp_path / "commit", monkeypatch)
    target, _ = open_target("owner/model")
    assert (target.name, target.path) == ("owner/model", tmp_path / "commit")
    assert hub.fetched == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}


def test_of_a_model_in_shards_the_shards_are_fetched_that_its_index_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = published(tmp_path / "repository")
    whole = open_target(str(folder))[0]
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model-old.safetensors").write_bytes(b"not needed")
    names = dict.fromkeys(("transformer.wte.weight", "transformer.wpe.weight"), "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {**names, "a": "../outside", "b": "*.py", "c": 7}})
    )
    hub = Hub(folder, tmp_path / "commit", monkeypatch)
    with pytest.raises(Exception, match=r"index\.json: "):  # its reader refuses what lies outside
        open_target("owner/model")
    assert "handler.py" not in hub.fetched
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    target, _ = open_target("owner/model")
    assert target.parameter_count == whole.parameter_count
    assert "model-00001-of-00001.safetensors" in hub.fetched
    assert not {"handler.py", "model-old.safetensors", "pytorch_model.bin"} & hub.fetched


def test_a_tokenizer_may_be_named_on_the_hub_without_the_weights_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(published(tmp_path / "repository"), tmp_path / "commit", monkeypatch)
    model = make_gpt2(tmp_path / "model")
    expected = open_target(str(model))[1]
    (model / "tokenizer.json").unlink()
    assert open_target(str(model), "owner/model")[1] == expected
    assert hub.fetched == {"config.json", "generation_config.json", "tokenizer.json"}


def test_a_tokenizer_may_be_a_folder_or_a_file_under_any_name(tmp_path: Path):
    model, other = make_llama(tmp_path / "model"), tmp_path / "other"
    expected = open_target(str(model))[1]
    other.mkdir()
    (model / "tokenizer.json").rename(other / "words.json")
    assert open_target(str(model), str(other / "words.json"))[1] == expected
    (other / "words.json").rename(other / "tokenizer.json")
    for given in (other, str(other), other / "tokenizer.json"):
        assert open_target(str(model), given)[1] == expected


def test_a_model_of_hugging_face_may_have_a_tokenizer_of_llama2c(tmp_path: Path):
    model, other = make_llama(tmp_path / "model", vocab_size=270), make_llama2c(tmp_path / "other")
    (model / "tokenizer.json").unlink()
    assert open_target(str(model), other.parent / "tokenizer.bin")[1] == open_target(str(other))[1]


def test_without_a_tokenizer_the_message_says_what_may_be_given(tmp_path: Path):
    model = make_gpt2(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    with pytest.raises(Exception, match="found no tokenizer") as caught:
        open_target(str(model))
    assert str(caught.value) == (
        f"{model}: found no tokenizer, expected tokenizer.json, or vocab.json with merges.txt; {GIVE_ONE}"
    )
    for word in ("hub name", "folder", "tokenizer.json"):
        assert word in GIVE_ONE


def test_a_tokenizer_that_is_nowhere_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nothing(*_: Any, **__: Any) -> str:
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    with pytest.raises(ConfigError) as caught:
        open_target(str(make_gpt2(tmp_path / "model")), "no/such")
    assert str(caught.value) == (
        f"no/such: no such tokenizer file or folder, nor to be had from the hub (not there); {GIVE_ONE}"
    )
