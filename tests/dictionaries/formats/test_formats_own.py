"""Our own folders: everything comes back, replacing is safe, and nothing that was touched is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from coders import coder, transcoder
from safetensors.torch import save

from englishroom import disk
from englishroom.dictionaries.formats import own
from englishroom.dictionaries.formats.own import load_dictionaries, save_dictionaries
from englishroom.errors import ArtifactError, ConfigError
from englishroom.store import sha256

ABOUT = {"seed": 3, "data_sha256": "ab" * 32, "versions": {"torch": "2.9"}, "rates": [0.1, None]}


def stored(folder: Path) -> Path:
    save_dictionaries(folder, [coder(), transcoder(activation="jumprelu", skip=True)], "tiny", ABOUT)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_dictionaries(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder))
    return message.removeprefix(str(folder))


def test_everything_comes_back_bit_for_bit(tmp_path: Path):
    found = load_dictionaries(stored(tmp_path / "a" / "b"))
    ours = (coder(), transcoder(activation="jumprelu", skip=True))
    assert (found.target_name, dict(found.about)) == ("tiny", ABOUT)
    assert [d.spec for d in found.dictionaries] == [d.spec for d in ours]
    for read, mine in zip(found.dictionaries, ours, strict=True):
        assert all(torch.equal(read.weights[name], tensor) for name, tensor in mine.weights.items())
        assert read.weights["W_enc"].T.is_contiguous()  # stored latent by latent again
        assert not any(tensor.requires_grad for tensor in read.weights.values())


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path: Path):
    stored(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    first = {path.name for path in tmp_path.iterdir()}
    save_dictionaries(tmp_path, [coder(seed=7)], "other")
    found = load_dictionaries(tmp_path)
    assert (found.target_name, len(found.dictionaries), dict(found.about)) == ("other", 1, {})
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left - first) == 1
    assert len(left) == 3  # the notes, the listing, one dictionary
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_save_that_fails_leaves_the_old_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stored(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = disk.write_flushed

    def fail_at_the_listing(path: Path, data: bytes) -> None:
        if data.startswith(b"{\n"):
            path.write_bytes(data[:10])
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(disk, "write_flushed", fail_at_the_listing)
    with pytest.raises(ArtifactError) as caught:
        save_dictionaries(tmp_path, [coder(seed=7)], "other")
    assert str(caught.value).startswith(
        f"{tmp_path / 'dictionaries.json'}: cannot be written (no space left on the disk; it takes "
    )
    assert load_dictionaries(tmp_path).target_name == "tiny"
    for name, data in before.items():
        assert (tmp_path / name).read_bytes() == data
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_saved(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        save_dictionaries(tmp_path / "file", [coder()], "tiny")
    assert str(caught.value) == f"{tmp_path / 'file'}: is a file; choose a path for a folder"
    for value, reason in ((object(), "not JSON serializable"), (float("nan"), "not JSON compliant")):
        with pytest.raises(ConfigError, match=rf"about cannot be written as JSON \(.*{reason}.*\); give plain values"):
            save_dictionaries(tmp_path / "out", [coder()], "tiny", {"seed": value})
    assert not (tmp_path / "out").exists()


# Reading is strict


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    listing = json.loads((folder / own.MARKER).read_bytes())
    change(listing)
    (folder / own.MARKER).write_text(json.dumps(listing))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="x"), "does not list dictionaries of englishroom; give a folder of dictionaries"),
        (
            lambda v: v.update(schema_version=2),
            "schema version is 2, expected 1; use the englishroom that wrote it, or train again",
        ),
        (lambda v: v.update(more=1), "more: Unexpected keyword argument, found 1; restore the file"),
        (lambda v: v.pop("target_name"), "target_name: Field required; restore the file"),
        (
            lambda v: v["dictionaries"][0].update(more=1),
            "dictionaries.0.more: Unexpected keyword argument, found 1; restore the file",
        ),
        (
            lambda v: v["dictionaries"][1]["spec"].update(k="many"),
            "dictionary 1: k: Input should be a valid integer, found 'many'; restore the file",
        ),
        (
            lambda v: v["dictionaries"][0]["spec"].update(k=1000),
            "dictionary 0: the whole text: Value error, blocks.0.hook_attn_out: k is 1000, expected 1 to 40 (its "
            "latents), found {'activation': 'topk', 'd_in': 12, 'd_out': 12, 'k': 1000, ...}; restore the file",
        ),
        (
            lambda v: v["dictionaries"][0].update(file="../x.safetensors"),
            "'../x.safetensors' lies outside the folder; restore the file",
        ),
    ],
)
def test_a_listing_that_was_edited(change: Callable[[Any], None], message: str, tmp_path: Path):
    edit(stored(tmp_path), change)
    assert refusal(tmp_path) == f"/{own.MARKER}: {message}"


def test_a_listing_with_other_fields(tmp_path: Path):
    edit(stored(tmp_path), lambda v: v["dictionaries"][1]["spec"].pop("skip"))
    message = refusal(tmp_path)
    assert message.startswith(f"/{own.MARKER}: dictionary 1 has ['activation', ")
    assert message.endswith("'skip', 'writes']; restore the file")


def test_damaged_listings(tmp_path: Path):
    stored(tmp_path)
    for content in (b"{", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / own.MARKER).write_bytes(content)
        assert re.match(r"/dictionaries.json: (the whole text: Invalid JSON|not UTF-8)", refusal(tmp_path))
    (tmp_path / own.MARKER).unlink()
    assert refusal(tmp_path) == f"/{own.MARKER}: missing; restore the file"
    (tmp_path / own.MARKER).mkdir()
    assert refusal(tmp_path) == f"/{own.MARKER}: is a folder, expected a file; restore the file"


def weights_file(folder: Path) -> Path:
    return folder / json.loads((folder / own.MARKER).read_bytes())["dictionaries"][0]["file"]


def test_damaged_weights(tmp_path: Path):
    file = weights_file(stored(tmp_path))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert refusal(tmp_path) == (
        f"/{file.name}: changed since it was written (sha256 differs from {own.MARKER}); restore the file"
    )
    file.unlink()
    assert refusal(tmp_path) == f"/{file.name}: missing; restore the file"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no tensors", "damaged safetensors file ("),
        (save({"W_enc": torch.ones(2, 2)}), "tensor W_dec is missing; restore the file"),
    ],
)
def test_weights_that_were_replaced_with_their_hash(data: bytes, message: str, tmp_path: Path):
    file = weights_file(stored(tmp_path))
    file.write_bytes(data)
    edit(tmp_path, lambda v: v["dictionaries"][0].update(sha256=sha256(data)))
    assert refusal(tmp_path).startswith(f"/{file.name}: {message}")
