"""A tiny random model with dictionaries, and the sparse model that starts from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec, weight_shapes
from englishroom.pipeline import DecompileConfig
from englishroom.sparse.config import SparseConfig, StartConfig
from englishroom.sparse.fit import SparseFit
from englishroom.sparse.model import SparseModel
from englishroom.sparse.start import start
from tiny_features import SPEC

ROOM_SETTINGS = {
    "moved": 32,
    "moved_active": 4,
    "rules": 32,
    "rules_active": 4,
    "local_tokens": 2000,
    "joint_tokens": 2000,
    "kinds": 48,
    "kinds_active": 6,
    "edges": 1500,
    "reads": 4,
    "fan_in": 8,
    "sparse_tokens": 4000,
    "samples": (60, 20, 20),
    "probe_rows": 3,
    "report_documents": 12,
}
N_MOVED, N_RULES, K = 20, 24, 6
ALL_KINDS = StartConfig(n_kinds=64, kinds_active=16, reads=None)


def transcoded(spec: ModelSpec = SPEC, seed: int = 0) -> Replacement:
    """Make the model, with a dictionary for every attention output, and a transcoder and a table for every MLP."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        weights[name] = torch.empty(shape).normal_(float(name.endswith(".w")), 0.3, generator=generator)
    dictionaries, tables = [], {}
    for layer in range(spec.n_layers):
        attended, out = f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out"
        moved = DictionarySpec(attended, (attended,), spec.d_model, spec.d_model, N_MOVED, k=K)
        dictionaries.append(Dictionary.random(moved, generator))
        d = DictionarySpec(f"blocks.{layer}.ln2.hook_normalized", (out,), spec.d_model, spec.d_model, N_RULES, k=K)
        dictionaries.append(Dictionary.random(d, generator))
        tables[out] = torch.empty(spec.d_vocab, spec.d_model).normal_(0, 0.2, generator=generator)
    return Replacement(spec, weights, tuple(dictionaries), tables)


def target_of(replacement: Replacement) -> Target:
    """Make a target of a replacement's own weights."""
    return Target("tiny", Path("tiny"), "huggingface", replacement.spec, dict(replacement.weights), {}, "0" * 64)


def text(spec: ModelSpec = SPEC, n_documents: int = 40, seed: int = 1) -> TokenRows:
    """Draw documents of random tokens."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(spec.n_ctx // 2, 2 * spec.n_ctx, n_documents)
    tokens = np.concatenate([np.append(0, rng.integers(1, spec.d_vocab, n - 1)) for n in sizes]).astype(np.int32)
    return TokenRows(tokens, np.cumsum([0, *sizes[:-1]]), spec.n_ctx)


def started(replacement: Replacement, rows: TokenRows, config: StartConfig = ALL_KINDS) -> SparseModel:
    """Start a sparse model on the rows of a text."""
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=replacement.spec.d_vocab).float()
    return start(replacement, torch.from_numpy(rows.rows(range(rows.n_rows))), counted, config, seed=0)


def rotary() -> ModelSpec:
    """Describe the tiny model as a Llama: queries and keys turn with the position, and two heads share a key."""
    return replace(
        SPEC,
        family="llama",
        n_kv_heads=1,
        activation="silu",
        norm="rmsnorm",
        gated_mlp=True,
        rotary_theta=100.0,
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
    )


def windowed() -> ModelSpec:
    """Describe the tiny model with local attention in its second layer."""
    return replace(SPEC, family="gpt_neo", windows=(None, 3))


def pruned(spec: ModelSpec) -> SparseModel:
    """Prune the sparse model of a tiny model in a few steps."""
    replacement, rows = transcoded(spec), text(spec)
    config = SparseConfig(
        tokens=12 * 8, edges=300, first_edges=900, reads=3, fan_in=5, most=8, row_limit=8, prunings=2, batch=4
    )
    run = SparseFit(target_of(replacement), started(replacement, rows), rows, config, {})
    while run.step < run.n_steps:
        run.update()
    return run.result()


def room_config(model: Path) -> DecompileConfig:
    """Ask for a sparse room of a tiny model, fitted on next to nothing."""
    return DecompileConfig(str(model)).changed(check=False, **ROOM_SETTINGS)
