"""Fetch models and tokenizers from the Hugging Face hub: data only, the files that are read, from the top folder."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from pathlib import Path

from englishroom.errors import ConfigError
from englishroom.models.weight_files import PYTORCH, SAFETENSORS, index_of, read_shards

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
)


def fetch_model(name: str) -> Path:
    """Find a model in the local cache or download it: configuration, tokenizer, and weights in one form.

    Raises:
        ConfigError: no such path, and no such model on the hub (or the hub cannot be reached).
        ArtifactError: the index of its shards is damaged, or names files of other folders.
    """
    remedy = "give a path, a hub name, or the name of a shipped model"
    indices = (index_of(Path(file)).name for file in (SAFETENSORS, PYTORCH))
    folder = _fetch(name, (*TOKENIZER_FILES, *indices), "no such room, model file or folder", remedy)
    for file in (SAFETENSORS, PYTORCH):
        index = index_of(folder / file)
        for wanted in ([file], [shard.name for shard in read_shards(index)] if index.exists() else []):
            if not wanted:
                continue
            _fetch(name, [escape(part) for part in wanted], "its weights cannot be fetched", remedy, folder.name)
            if (folder / wanted[0]).exists():
                return folder
    return folder


def fetch_tokenizer(name: str, remedy: str) -> Path:
    """Find the tokenizer of a model in the local cache or download it, without the model.

    Args:
        remedy: what to do where there is none, for the message.

    Raises:
        ConfigError: no such path, and no such model on the hub (or the hub cannot be reached).
    """
    return _fetch(name, TOKENIZER_FILES, "no such tokenizer file or folder", remedy)


def _fetch(name: str, files: Sequence[str], fault: str, remedy: str, revision: str | None = None) -> Path:
    """Fetch files by their whole names, so that none comes from a folder inside, and return where they lie.

    Args:
        revision: the commit to take them from; the newest by default. A snapshot's folder is named after its commit.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), revision=revision))
    except Exception as error:  # the hub client raises many kinds, network errors among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"{name}: {fault}, nor to be had from the hub ({reason[:160]}); {remedy}") from None
