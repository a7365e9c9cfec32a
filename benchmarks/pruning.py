"""Compare what may decide which edges of a sparse model stay: size, attribution, learned gates; and check by ablation.

python benchmarks/pruning.py [--model tiny-2l] [--joint-tokens 400000] [--steps 300] [--share 0.35]

1. Fit dictionaries to tiny-2l, start a sparse model with few edges, and refit it for a while: the base.
2. Leave out all but a share of its edges at once, chosen by each criterion; measure KL(target||program) on held-out
   text, refit for some steps, and measure again. Gates are learned for as many steps beforehand; the others are
   refitted for as many steps more, so that all have had the same.
3. Take single edges out, drawn at random, and see whether attribution ranks them as their absence does.

One thread; about a quarter of an hour.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from englishroom.data.texts import open_text
from englishroom.dictionaries.config import DictionariesConfig, FitConfig, TrainerConfig
from englishroom.dictionaries.joint_fit import Fit, featured_specs
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.pipeline.opening import open_target
from englishroom.sparse.config import SparseConfig, StartConfig
from englishroom.sparse.edges import Edges
from englishroom.sparse.fit import SparseFit
from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import Key, Moments, leave_out, measure_moments, saliencies
from englishroom.sparse.start import start

Scores = dict[Key, Tensor]
GATE_PENALTY = 3e-7
"""Nats that a gate costs that is wide open."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-2l")
    parser.add_argument("--latents", type=int, default=512, help="of an attention; MLPs and tokens have twice that")
    parser.add_argument("--local-tokens", type=int, default=60_000)
    parser.add_argument("--joint-tokens", type=int, default=400_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.35, help="of edges that stay")
    parser.add_argument("--held-out", type=int, default=24, help="rows to measure on")
    parser.add_argument("--sampled-edges", type=int, default=150, help="edges to take out one at a time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    target, tokenizer = open_target(given.model)
    rows, held_out = (
        TokenRows.of(tokenizer, open_text(f"sampled:{part}").documents, target.spec.n_ctx) for part in ("fit", "choose")
    )
    tokens = torch.from_numpy(held_out.rows(range(given.held_out)))
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab).float()
    base = refitted(target, started(target, rows, counted, given), rows, given.steps)
    batches = [torch.from_numpy(rows.batch(1, i, 2)) for i in range(12)]
    moments = measure_moments(trainable(base), batches, counted, seed=0)
    print(f"base: {base.n_edges:,} edges, KL {divergence(target, base, tokens):.4f}", flush=True)
    longer = refitted(target, base, rows, given.steps)
    longer_moments = measure_moments(trainable(longer), batches, counted, seed=0)
    criteria: Mapping[str, tuple[SparseModel, Moments, Callable[[], Scores]]] = {
        "at random": (longer, longer_moments, lambda: at_random(longer)),
        "size of the weight": (longer, longer_moments, lambda: sizes(longer, None)),
        "weight times spread of its feature": (longer, longer_moments, lambda: sizes(longer, longer_moments)),
        "attribution": (longer, longer_moments, lambda: saliencies(longer, longer_moments)),
    }
    print(f"all but {given.share:.0%} left out: KL at once, and after {given.steps} steps")
    for name, (model, seen, score) in criteria.items():
        report(name, target, model, seen, score(), given.share, tokens, rows, given.steps)
    gated, gates = learn_gates(target, base, rows, given.steps)
    report("learned gates", target, gated, moments, gates, given.share, tokens, rows, given.steps)
    ablated(longer, longer_moments, tokens, given.sampled_edges)


def started(target: Target, rows: TokenRows, counted: Tensor, given: argparse.Namespace) -> SparseModel:
    """Fit dictionaries quickly, and start a sparse model with few edges."""
    chosen = DictionariesConfig(moved=given.latents, moved_active=32, rules=2 * given.latents, rules_active=48)
    specs = featured_specs(target.spec, chosen)
    config = FitConfig(
        given.local_tokens, given.joint_tokens, 2, align=0.1, ablate=0.0, trainer=TrainerConfig(rate=6e-3)
    )
    fit = Fit(target, specs, rows, config, {})
    while fit.step < fit.n_steps:
        fit.update()
    first = torch.from_numpy(rows.batch(0, 0, 64))
    return start(fit.result(), first, counted, StartConfig(2 * given.latents, 32, reads=64), 0)


def refitted(target: Target, model: SparseModel, rows: TokenRows, steps: int) -> SparseModel:
    """Refit a model, leaving nothing out."""
    config = SparseConfig(tokens=steps * 2 * rows.length, prunings=0, batch=2, bits=None, rate=0.015, decay=0.5)
    run = SparseFit(target, model, rows, config, {})
    while run.step < run.n_steps:
        run.update()
    return run.result()


def trainable(model: SparseModel) -> SparseModel:
    for tensor in model.parameters().values():
        tensor.requires_grad_()
    return model


def divergence(target: Target, model: SparseModel, tokens: Tensor) -> float:
    """Return KL(target‖program) in nats per token."""
    with torch.no_grad():
        final, _ = clean_run(target.spec, target.weights, tokens, [])
        expected = (final @ unembedding(target.spec, target.weights)).flatten(0, 1)
        return float(kl_nats(expected, model.run(tokens))[0].mean())


def at_random(model: SparseModel) -> Scores:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(len(e.columns), generator=generator) for key, e in tables(model).items()}


def sizes(model: SparseModel, moments: Moments | None) -> Scores:
    """Score edges by their weight in units of their stage's, times the spread of their feature where it is given."""
    found: Scores = {}
    for (stage, source), edges in tables(model).items():
        spread = 1.0 if moments is None else moments.variances[source][edges.sources].sqrt()
        found[stage, source] = edges.weights.detach().abs() * spread
    for stage in range(model.shape.n_stages):
        own = [key for key in found if key[0] == stage]
        scale = torch.cat([found[key] for key in own]).square().mean().sqrt()
        found |= {key: found[key] / scale for key in own}
    return found


def tables(model: SparseModel) -> dict[Key, Edges]:
    return {(stage, source): edges for stage, t in enumerate(model.tables) for source, edges in t.items()}


def learn_gates(target: Target, model: SparseModel, rows: TokenRows, steps: int) -> tuple[SparseModel, Scores]:
    """Learn a gate for every edge, between 0 and 1, beside the weights; open gates cost."""
    model = trainable(refitted(target, model, rows, 1))
    edges = tables(model)
    gates = {key: torch.full_like(e.weights.detach(), 2.0).requires_grad_() for key, e in edges.items()}
    groups = [
        {"params": [t], "lr": 0.015 * float(t.detach().square().mean().sqrt() + 1e-4)}
        for t in model.parameters().values()
        if t.numel()
    ]
    optimiser = torch.optim.Adam([*groups, {"params": list(gates.values()), "lr": 0.05}], betas=(0.9, 0.98))
    for step in range(steps):
        tokens = torch.from_numpy(rows.batch(3, step, 2))
        final, _ = clean_run(target.spec, target.weights, tokens, [])
        expected = (final @ unembedding(target.spec, target.weights)).flatten(0, 1).detach()
        opened = {key: replace(e, weights=e.weights * gates[key].sigmoid()) for key, e in edges.items()}
        loss = kl_nats(expected, model.with_tables(opened).run(tokens))[0].mean()
        loss = loss + GATE_PENALTY * sum(gate.sigmoid().sum() for gate in gates.values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        opened = {key: replace(e, weights=e.weights * gates[key].sigmoid()) for key, e in edges.items()}
        return model.with_tables(opened), {key: gate.detach() for key, gate in gates.items()}


def report(
    name: str,
    target: Target,
    model: SparseModel,
    moments: Moments,
    scores: Scores,
    share: float,
    tokens: Tensor,
    rows: TokenRows,
    steps: int,
) -> None:
    """Leave edges out by their scores; means of what goes move to constants."""
    every = torch.cat(list(scores.values()))
    least = every.kthvalue(max(1, round(len(every) * (1 - share)))).values
    kept = {key: score > least for key, score in scores.items()}
    fewer = leave_out(model, kept, moments)
    before = divergence(target, fewer, tokens)
    after = divergence(target, refitted(target, fewer, rows, steps), tokens)
    print(f"{name:36} {fewer.n_edges:9,} edges  {before:7.4f}  {after:7.4f}", flush=True)


def ablated(model: SparseModel, moments: Moments, tokens: Tensor, n_edges: int) -> None:
    """Take single edges out and compare the divergence from the model with what attribution says."""
    rng = np.random.default_rng(0)
    scores, edges = saliencies(model, moments), tables(model)
    keys = list(edges)
    share = np.array([len(edges[key].columns) for key in keys], float)
    said, found = [], []
    with torch.no_grad():
        whole = model.run(tokens)
        for _ in range(n_edges):
            key = keys[int(rng.choice(len(keys), p=share / share.sum()))]
            order = scores[key].argsort(descending=True)
            at = int(order[int(rng.random() ** 3 * len(order))])  # the strong ones more often
            kept = {key: torch.arange(len(order)) != at}
            fewer = leave_out(model, kept, moments)
            said.append(float(scores[key][at]))
            found.append(float(kl_nats(whole, fewer.run(tokens))[0].mean()))
    ratio = np.median(np.array(found) / np.maximum(np.array(said), 1e-12))
    print(
        f"{n_edges} edges taken out one at a time: rank correlation of attribution and KL "
        f"{spearmanr(said, found).statistic:.2f}, median ratio of KL to attribution {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
