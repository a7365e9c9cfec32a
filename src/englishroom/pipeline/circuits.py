"""The circuits of a featured program, as plain data for its room: heads, tables of feature pairs, edges, rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from englishroom.circuits.basis import Basis, block_outputs, feature_basis, observe
from englishroom.circuits.clamping import sum_edges, tabulate_edges
from englishroom.circuits.composition import score_composition
from englishroom.circuits.heads import repeated_tokens, replaced_runner, score_copying, score_heads, target_runner
from englishroom.circuits.mlp import describe_rules
from englishroom.circuits.ov import ov_circuit
from englishroom.circuits.qk import Usage, distance_buckets, qk_circuit, top_pairs, usage
from englishroom.dictionaries.replacement import Replacement
from englishroom.ir.tokenizer import Tokenizer
from englishroom.models.load import Target
from englishroom.steps import Progress

REPEATED_ROWS, REPEATED_LENGTH = 16, 50
"""Random tokens, said twice, on which heads are told apart."""
PAIRS = 12
"""Pairs of features listed for every head, and sources and latents for every head's moves."""
RULES = 32
"""Rules spelt out of every transcoder, those that fire most."""
BUCKETS = (0, 1, 5, 17)
"""Where buckets of distances begin, for which pairs are listed apart under rotary positions."""
SOURCES = 200
"""Features that are on most, among which a head's moves are looked for."""
EDGE_ROWS, EDGE_TOKENS = 6, 64


def describe_circuits(
    replacement: Replacement, target: Target, tokenizer: Tokenizer, rows: Tensor, seed: int, progress: Progress
) -> dict[str, Any]:
    """Describe how heads and rules work, in terms of features; the same detectors run on target and program.

    Args:
        rows: text, [row, pos].
    """
    spec, weights = target.spec, target.weights
    generator = torch.Generator().manual_seed(seed)
    length = min(REPEATED_LENGTH, (spec.n_ctx - 1) // 2)
    repeated = repeated_tokens(spec.d_vocab, REPEATED_ROWS, length, generator, tokenizer.start_id)
    heads: list[dict[str, Any]] = []
    with torch.no_grad():
        for model, run in (("target", target_runner(spec, weights)), ("program", replaced_runner(replacement))):
            for text, tokens in (("repeated random tokens", repeated), ("text", rows)):
                found = score_heads(spec, run, tokens, progress=progress)
                heads += [{"model": model, "text": text, **asdict(row)} for row in found]
        basis = feature_basis(replacement)
        used = usage(observe(basis, replacement, rows)[0])
        return {
            "heads": heads,
            "copying": [asdict(row) for row in score_copying(spec, weights)],
            "composition": [asdict(row) for row in score_composition(spec, weights, generator)],
            "pairs": _pairs(basis, replacement, tokenizer, used, progress),
            "moves": _moves(basis, replacement, tokenizer, used),
            "rules": _rules(basis, replacement, tokenizer, used, progress),
            "edges": _edges(basis, replacement, rows[:EDGE_ROWS, :EDGE_TOKENS], generator, progress),
        }


def _pairs(
    basis: Basis, replacement: Replacement, tokenizer: Tokenizer, used: Usage, progress: Progress
) -> list[dict[str, Any]]:
    spec, found = replacement.spec, []
    buckets: list[range | None] = [None]
    if spec.rotary_theta is not None:
        buckets = [*distance_buckets([start for start in BUCKETS if start < spec.n_ctx], spec.n_ctx)]
    for layer in range(spec.n_layers):
        for head in range(spec.n_heads):
            circuit = qk_circuit(basis, replacement, layer, head)
            for bucket in buckets:
                where = {} if bucket is None else {"from_distance": bucket[0], "to_distance": bucket[-1]}
                for pair in top_pairs(circuit, used, PAIRS, bucket):
                    names = {side: basis.name(getattr(pair, side), tokenizer.pieces) for side in ("query", "key")}
                    row = {"layer": layer, "head": head, **where, **names}
                    found.append(row | {"value": pair.value, "mean": pair.weight})
            progress("score tables", layer * spec.n_heads + head + 1, spec.n_layers * spec.n_heads)
    return found


def _moves(basis: Basis, replacement: Replacement, tokenizer: Tokenizer, used: Usage) -> list[dict[str, Any]]:
    """List, for every head, which moved features the features it finds turn into."""
    found: list[dict[str, Any]] = []
    for layer in range(replacement.spec.n_layers):
        site = f"blocks.{layer}.hook_attn_out"
        readers = [d for d in replacement.dictionaries if d.spec.reads == d.spec.writes[0] == site]
        count = basis.count_before(f"blocks.{layer}.hook_resid_pre")
        means = used.means[:count].abs()
        sources = means.topk(min(SOURCES, count)).indices
        for dictionary in readers:
            latents = torch.arange(dictionary.spec.n_latents)
            ids = [basis.find(f"moved.{layer}.{latent}") for latent in range(dictionary.spec.n_latents)]
            for head in range(replacement.spec.n_heads):
                table = ov_circuit(basis, replacement, layer, head).to_latents(dictionary, sources, latents)
                weight = table * used.means[sources, None].to(table)
                best = weight.flatten().abs().topk(PAIRS).indices
                for place in best.tolist():
                    source, latent = divmod(place, len(latents))
                    found.append(
                        {
                            "layer": layer,
                            "head": head,
                            "source": basis.name(int(sources[source]), tokenizer.pieces),
                            "moved": basis.name(ids[latent], tokenizer.pieces),
                            "value": float(table[source, latent]),
                            "mean": float(weight[source, latent]),
                        }
                    )
    return found


def _rules(
    basis: Basis, replacement: Replacement, tokenizer: Tokenizer, used: Usage, progress: Progress
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    transcoders = [d for d in replacement.dictionaries if d.spec.writes[0].endswith("hook_mlp_out") and not d.spec.skip]
    for done, dictionary in enumerate(transcoders, 1):
        first = basis.find(_first_rule(basis, dictionary.spec.writes[0]))
        fired = used.counts[first : first + dictionary.spec.n_latents]
        latents = fired.topk(min(RULES, len(fired))).indices.tolist()
        for rule in describe_rules(basis, replacement, dictionary, latents, used):
            reads = [
                {"feature": basis.name(t.feature, tokenizer.pieces), "weight": t.weight, "mean": t.mean}
                for t in rule.reads
            ]
            votes = {
                side: [{"token": basis.name(token, tokenizer.pieces), "logit": value} for token, value in chosen]
                for side, chosen in (("promotes", rule.promotes), ("demotes", rule.demotes))
            }
            found.append(
                {"rule": basis.id(first + rule.latent), "reads": reads, "offset": rule.offset, "bias": rule.bias}
                | votes
            )
        progress("rules", done, len(transcoders))
    return found


def _first_rule(basis: Basis, site: str) -> str:
    group = next(group for group in basis.groups if group.kind == "rule" and group.site == site)
    return basis.id(group.start)


def _edges(
    basis: Basis, replacement: Replacement, rows: Tensor, generator: torch.Generator, progress: Progress
) -> Sequence[dict[str, Any]]:
    """Check edges by intervention, where every block's output is a sum of features."""
    if not replacement.written.issuperset(block_outputs(replacement.spec)):
        return []
    return [asdict(row) for row in tabulate_edges(sum_edges(basis, replacement, rows, generator, progress=progress))]
