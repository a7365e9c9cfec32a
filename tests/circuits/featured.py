"""Featured models for tests: tiny random targets of every family with random dictionaries in place of every block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.models.load import load_target
from tiny import CASES

PICKED = (
    "gpt2",
    "gpt_neo-untied-window-1",
    "gpt_neo-local",
    "llama-grouped-tied",
    "llama-one-key-wide-heads-biased",
    "llama2c-grouped-untied",
)
WITH_TABLES = ("gpt2", "llama2c-grouped-untied")
"""Cases in which the first MLP's output also has a table of tokens."""
ACTIVATIONS = ("topk", "jumprelu", "batchtopk")


def featured(case: str, folder: Path, n_latents: int = 24, k: int = 5) -> Replacement:
    """Write a tiny model, read it, and stand a random dictionary for every attention and MLP output."""
    target = load_target(str(CASES[case].write(folder / "model")))
    generator = torch.Generator().manual_seed(0)
    dictionaries: list[Dictionary] = []
    d = target.spec.d_model
    for layer in range(target.spec.n_layers):
        block = f"blocks.{layer}"
        for reads, writes in (("hook_attn_out",) * 2, ("ln2.hook_normalized", "hook_mlp_out")):
            activation = ACTIVATIONS[len(dictionaries) % 3]
            spec = DictionarySpec(f"{block}.{reads}", (f"{block}.{writes}",), d, d, n_latents, activation, k)  # pyright: ignore[reportArgumentType]
            dictionaries.append(noisy(Dictionary.random(spec, generator), generator))
    tables = {}
    if case in WITH_TABLES:
        site = "blocks.0.hook_mlp_out"
        tables[site] = 0.3 * torch.randn(target.spec.d_vocab, d, generator=generator)
    return Replacement(target.spec, target.weights, tuple(dictionaries), tables)


def noisy(dictionary: Dictionary, generator: torch.Generator) -> Dictionary:
    """Give a dictionary biases and a threshold that show where they are forgotten."""
    noise: Mapping[str, Tensor] = {
        name: torch.randn(t.shape, generator=generator) * 0.2
        for name, t in dictionary.weights.items()
        if name in ("b_enc", "b_dec")
    }
    if "threshold" in dictionary.weights:
        noise = noise | {"threshold": torch.rand(dictionary.spec.n_latents, generator=generator)}
    return Dictionary.of(dictionary.spec, dict(dictionary.weights) | noise)
