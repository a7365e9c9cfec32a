"""The files that the weights of a Hugging Face folder stand in: whole, or in shards that an index names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from englishroom.errors import ArtifactError
from englishroom.untrusted import parse_json, read_bytes

SAFETENSORS, PYTORCH = "model.safetensors", "pytorch_model.bin"


def index_of(weights: Path) -> Path:
    """Return the index that may stand in the place of a file of weights."""
    return weights.with_name(f"{weights.name}.index.json")


def read_shards(index: Path) -> list[Path]:
    """List the files that an index names.

    Raises:
        ArtifactError: it is damaged, or names a file that does not lie beside it.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ArtifactError(f"{index}: no weight_map of file names; restore the file")
    if any(Path(shard).name != shard for shard in shards.values()):
        raise ArtifactError(f"{index}: a shard lies outside the folder; restore the file")
    return [index.parent / shard for shard in sorted(set(shards.values()))]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: the file is missing, cannot be read, is not JSON, or is not an object.
    """
    return parse_json(read_bytes(path, "restore the file"), TypeAdapter(dict[str, Any]), path, "restore the file")
