"""llama2.c ``.bin`` files (version 0): a header of seven int32, then float32 weights in a fixed order.

The layout is read by position, so its only check is the size of the file. Rotary pairs stand side by side here
(coordinates 2i and 2i+1); we reorder query and key columns so that i pairs with i + d_head / 2 as in Llama files.
Scores are sums over coordinates, so the reordering changes nothing but names of coordinates.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from englishroom.errors import ArtifactError
from englishroom.models.adapters import llama
from englishroom.models.adapters.mapping import Config, Family, WeightSource
from englishroom.models.spec import ModelSpec
from englishroom.untrusted import require_file

HEADER = struct.Struct("<7i")
_FIELDS = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "vocab_size": "vocab_size",
    "seq_len": "max_position_embeddings",
}
"""The numbers of the header, in order, and their names in a Llama ``config.json``."""


def read_spec(path: Path) -> ModelSpec:
    """Read the header of a llama2.c file.

    Raises:
        ArtifactError: the file is too short, or its header is not that of a llama2.c version 0 file.
    """
    with require_file(path, "fetch the file again").open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise ArtifactError(f"{path}: {len(head)} bytes, too short for a header of {HEADER.size}; fetch the file again")
    header = dict(zip(_FIELDS, HEADER.unpack(head), strict=True))
    tied, sizes = header["vocab_size"] > 0, {**header, "vocab_size": abs(header["vocab_size"])}
    plausible = all(1 <= value <= 2**20 for value in sizes.values()) and header["n_layers"] <= 1000
    if (
        not plausible
        or header["dim"] % header["n_heads"]
        or header["dim"] // header["n_heads"] % 2
        or header["n_heads"] % header["n_kv_heads"]
    ):
        shown = ", ".join(f"{name} {value}" for name, value in header.items())
        raise ArtifactError(f"{path}: not a llama2.c version 0 file (header reads {shown}); give a .bin of that format")
    as_llama = {name: sizes[field] for field, name in _FIELDS.items()}
    return llama.read(Config({**as_llama, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied}, str(path))).spec


def read(path: Path) -> tuple[Family, dict[str, Tensor]]:
    """Read a llama2.c file as a family and its published tensors (stacked tensors split by layer).

    Raises:
        ArtifactError: the size of the file is not what its header implies.
    """
    spec = read_spec(path)
    d, h, v, layers = spec.d_model, spec.d_mlp, spec.d_vocab, spec.n_layers
    q, kv = spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head
    stacked: list[tuple[str, tuple[int, ...]]] = [
        ("attention_norm", (d,)),
        ("wq", (q, d)),
        ("wk", (kv, d)),
        ("wv", (kv, d)),
        ("wo", (d, q)),
        ("ffn_norm", (d,)),
        ("w1", (h, d)),
        ("w2", (d, h)),
        ("w3", (h, d)),
    ]
    order = [("tok_embeddings", (v, d))]
    order += [(f"layers.{layer}.{name}", shape) for name, shape in stacked for layer in range(layers)]
    order += [("norm", (d,)), ("freq_cis", (2 * spec.n_ctx, spec.d_head // 2))]
    if not spec.tied:
        order.append(("output", (v, d)))
    expected = HEADER.size + 4 * sum(math.prod(shape) for _, shape in order)
    found = path.stat().st_size
    if found != expected:
        what = "truncated" if found < expected else "longer than its header implies"
        raise ArtifactError(f"{path}: {what}: {found:,} bytes, expected {expected:,}; fetch the file again")
    numbers = np.fromfile(path, dtype="<f4", offset=HEADER.size)
    tensors: dict[str, Tensor] = {}
    at = 0
    for name, shape in order:
        size = math.prod(shape)
        tensors[name] = torch.from_numpy(numbers[at : at + size].reshape(shape))
        at += size
    for layer in range(layers):
        for name, heads in (("wq", spec.n_heads), ("wk", spec.n_kv_heads)):
            key = f"layers.{layer}.{name}"
            tensors[key] = tensors[key].view(heads, spec.d_head // 2, 2, d).transpose(1, 2).reshape(-1, d)
    return Family(spec, _sources(spec), ignored=("freq_cis",)), tensors


def _sources(spec: ModelSpec) -> tuple[WeightSource, ...]:
    found = [WeightSource("embed.W_E", "tok_embeddings")]
    for layer in range(spec.n_layers):
        ours, theirs = f"blocks.{layer}", f"layers.{layer}"
        found += [
            WeightSource(f"{ours}.ln1.w", f"{theirs}.attention_norm"),
            WeightSource(f"{ours}.ln2.w", f"{theirs}.ffn_norm"),
        ]
        for name, linear in (("Q", "wq"), ("K", "wk"), ("V", "wv"), ("O", "wo")):
            found.append(WeightSource(f"{ours}.attn.W_{name}", f"{theirs}.{linear}", transposed=True))
        for name, linear in (("gate", "w1"), ("in", "w3"), ("out", "w2")):
            found.append(WeightSource(f"{ours}.mlp.W_{name}", f"{theirs}.{linear}", transposed=True))
    found.append(WeightSource("ln_final.w", "norm"))
    if not spec.tied:
        found.append(WeightSource("unembed.W_U", "output", transposed=True))
    return tuple(found)
