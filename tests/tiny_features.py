"""A tiny random model with dictionaries in all of its parts, a tokenizer of odd tokens, and documents for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.evidence.config import EvidenceConfig
from englishroom.dictionaries.evidence.harvest import harvest
from englishroom.dictionaries.evidence.latent_evidence import LatentEvidence
from englishroom.dictionaries.evidence.masked_rows import rows_of
from englishroom.dictionaries.evidence.tabulate import tabulate
from englishroom.dictionaries.replacement import Replacement
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.tokenizer_json import tokenizer_to_json
from englishroom.models.spec import ModelSpec, weight_shapes
from englishroom.names import TOKENIZER
from englishroom.store import SCHEMA_VERSION, Manifest, write_room

D_VOCAB, N_CTX, N_LATENTS, DEAD = 30, 12, 20, 4
SPEC = ModelSpec(
    family="gpt2",
    n_layers=2,
    d_model=8,
    n_heads=2,
    n_kv_heads=2,
    d_head=4,
    d_mlp=16,
    d_vocab=D_VOCAB,
    n_ctx=N_CTX,
    activation="gelu_new",
    norm="layernorm",
    norm_eps=1e-5,
    gated_mlp=False,
    rotary_theta=None,
    attn_scale=0.5,
    windows=(None, None),
    tied=True,
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
)
ODD = (b"<|endoftext|>", b"", b"\n", b"\x1b[31m", b'"', b"\\", b"\xe2\x80", "\u202e".encode(), " é".encode())
CONFIG = EvidenceConfig(strongest=3, drawn=8, bands=4, before=3, after=2, listed_tokens=4, neighbours=3)


def replacement(spec: ModelSpec = SPEC) -> Replacement:
    """Make the model: every attention output an SAE (top-k), every MLP a transcoder (JumpReLU); latent DEAD is dead."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        weights[name] = torch.empty(shape).normal_(float(name.endswith(".w")), 0.5, generator=generator)
    dictionaries = []
    for layer in range(spec.n_layers):
        out = f"blocks.{layer}.hook_attn_out"
        moved = DictionarySpec(out, (out,), 8, 8, N_LATENTS, k=3)
        reads, writes = f"blocks.{layer}.ln2.hook_normalized", (f"blocks.{layer}.hook_mlp_out",)
        rules = DictionarySpec(reads, writes, 8, 8, N_LATENTS, "jumprelu", None)
        for made in (moved, rules):
            dictionary = Dictionary.random(made, generator)
            dictionary.weights["b_enc"][DEAD] = -1e9
            if made is rules:
                dictionary.weights["threshold"].fill_(0.8)
            dictionaries.append(dictionary)
    return Replacement(spec, weights, tuple(dictionaries))


def tokenizer() -> Tokenizer:
    """Make a tokenizer with tokens that a terminal would obey, that are no text, and that have no name."""
    words = tuple(f" w{i}".encode() for i in range(D_VOCAB - len(ODD)))
    return Tokenizer("byte_bpe", ODD + words, (), (), (-1,) * 256, (0, 1), 0, (0,), False)


def documents(n: int = 23) -> list[list[int]]:
    """Draw documents of 1 to 15 tokens, each beginning with the start token."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 15, (n,), generator=generator).tolist()
    return [[0, *torch.randint(0, D_VOCAB, (length,), generator=generator).tolist()] for length in lengths]


def evidence(model: Replacement | None = None, text: Sequence[Sequence[int]] | None = None) -> LatentEvidence:
    """Harvest and tabulate all."""
    model = model or replacement()
    rows = rows_of(documents() if text is None else text, N_CTX, 4)
    return tabulate(model, harvest(model, rows, CONFIG), tokenizer(), {"name": "drawn", "documents": 23})


def write_featured_room(path: Path, found: LatentEvidence) -> Path:
    """Write a room that holds evidence and a tokenizer."""
    contents = {**found.files(), TOKENIZER: tokenizer_to_json(tokenizer()).encode()}
    manifest = Manifest(SCHEMA_VERSION, "featured", {"name": "tiny"}, {}, 0, [], {}, {})
    write_room(path, contents.items(), lambda _: manifest)
    return path
