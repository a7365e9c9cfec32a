"""Rooms that fit their hashes and nothing else: what an attacker, or a program gone wrong, may write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from englishroom.store import arrays_to_bytes


def put(room: Path, name: str, data: bytes) -> Path:
    """Replace a file of a room, or add one, with its hash in the manifest."""
    (room / name).write_bytes(data)
    return sign(room, files={name: hashlib.sha256(data).hexdigest()})


def sign(room: Path, **changes: Any) -> Path:
    """Change keys of a manifest, mappings by merging, and give it the hash that fits; ``...`` removes a key."""
    path = room / "manifest.json"
    values = json.loads(path.read_bytes())
    for name, value in changes.items():
        old = values.get(name)
        values[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    values = {name: value for name, value in values.items() if value is not ...} | {"sha256": "0" * 64}
    raw = json.dumps(values, indent=1).encode() + b"\n"
    before, _, after = raw.rpartition(b"0" * 64)
    path.write_bytes(before + hashlib.sha256(raw).hexdigest().encode() + after)
    return room


def put_arrays(room: Path, arrays: Mapping[str, Any]) -> Path:
    """Replace the tables of a room."""
    return put(room, "tables.safetensors", arrays_to_bytes(arrays))


def safetensors_of(views: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """Lay out a safetensors file by hand: name -> number type as the file says it, shape, bytes."""
    header, at = {}, 0
    for name, (dtype, shape, data) in views.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(data for _, _, data in views.values())
