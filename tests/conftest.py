"""Fixtures that every test may use: the folder of third-party material, and tiny models made on the spot."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from englishroom.evaluate.compute_recovered.curve import measure_run
from englishroom.pipeline import DecompileConfig, decompile
from englishroom.talkers.build import build_talker
from englishroom.talkers.config import TalkerConfig, TrainConfig
from tiny_stories import story

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches for the network
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each worker, and for what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
TINY = TrainConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=32, vocabulary=300, tokens=4 * 32 * 12, batch=4)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests write here apart from what the user wrote."""
    os.environ["ENGLISHROOM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of third-party models and texts, or skip the test where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("ENGLISHROOM_SHARED", default))
    if not (path / "models").is_dir():
        pytest.skip(f"no third-party models and texts at {path}; set ENGLISHROOM_SHARED to their folder")
    return path


@pytest.fixture(scope="session")
def story_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text file of two hundred made-up stories."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(map(story, range(200))), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def unseen_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text file of other made-up stories, with speech in them."""
    path = tmp_path_factory.mktemp("text") / "unseen.txt"
    speech = 'Tom said, "I like it!"\n'
    path.write_text("\n<|endoftext|>\n".join(speech + story(seed) for seed in range(900, 930)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_talker(story_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a GPT-2-style model trained for a few steps."""
    out = tmp_path_factory.mktemp("talker") / "tiny"
    build_talker(TalkerConfig((str(story_file),), training=TINY), out, measure_run)
    shutil.rmtree(out / "work")
    return out


@pytest.fixture(scope="session")
def _tiny_room(tiny_talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("room") / "room"
    decompile(DecompileConfig(str(tiny_talker), "exact").changed(check=False), out)
    return out


@pytest.fixture
def tiny_room(_tiny_room: Path, tmp_path: Path) -> Path:
    """Return a fresh copy of a decompiled room."""
    return Path(shutil.copytree(_tiny_room, tmp_path / "tiny_room"))


@pytest.fixture
def tiny_bin(tmp_path: Path) -> Path:
    """Return a llama2.c model of two layers with its tokenizer beside it."""
    dim, hidden, layers, heads, kv_heads, vocabulary, n_ctx = 8, 12, 2, 2, 1, 300, 16
    rng = np.random.default_rng(0)
    kv = dim // heads * kv_heads
    count = vocabulary * dim + layers * (2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * hidden) + dim
    numbers = rng.normal(0, 0.3, count).astype("<f4").tobytes() + bytes(4 * n_ctx * dim // heads)
    folder = tmp_path / "tiny_bin"
    folder.mkdir()
    header = struct.pack("<7i", dim, hidden, layers, heads, kv_heads, vocabulary, n_ctx)
    (folder / "tiny.bin").write_bytes(header + numbers)
    (folder / "tok.bin").write_bytes(llama2c_tokenizer(vocabulary))
    return folder / "tiny.bin"


def llama2c_tokenizer(vocabulary: int) -> bytes:
    """Write a llama2.c tokenizer: three specials, the bytes, then letters and pairs of letters."""
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256)), b" "]
    letters = "etaoinshrdlu"
    pieces += [letter.encode() for letter in letters]
    pieces += [f" {letter}".encode() for letter in letters]
    pieces += [(a + b).encode() for a in letters for b in letters]
    body = b"".join(struct.pack("<fi", -float(i), len(p)) + p for i, p in enumerate(pieces[:vocabulary]))
    return struct.pack("<i", max(map(len, pieces))) + body
