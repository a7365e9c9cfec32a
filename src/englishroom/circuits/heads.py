"""What kind of head a head is: seen in its attention pattern, and in what its OV circuit copies.

Patterns are scored by how much attention falls, on average over the queries that have such a place to look at, on

- ``previous``: the position before;
- ``duplicate``: earlier positions with the present token;
- ``induction``: positions whose previous token is the present one (Olsson et al. 2022).

Beside each stands what even attention over the visible positions would have given. Any model will do whose pattern a
tap can see: the target, and a target with parts replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from englishroom.circuits.folded_norm import reading, votes
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import Tap, final_normalized, visible_keys
from englishroom.models.spec import ModelSpec
from englishroom.steps import Progress, silent

Runner = Callable[[Tensor, Tap], object]
"""Reads tokens [batch, pos] and shows a tap every site, ``hook_pattern`` among them."""
Detector = Literal["previous", "duplicate", "induction"]
DETECTORS: tuple[Detector, ...] = get_args(Detector)
TOKENS_AT_ONCE = 1024


def target_runner(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Runner:
    """Show the patterns of a target."""
    return lambda tokens, tap: final_normalized(spec, weights, tokens, tap)


def replaced_runner(replacement: Replacement) -> Runner:
    """Show the patterns of a target with parts replaced by dictionaries."""
    return lambda tokens, tap: replacement.run(tokens, tap, attend=None)


def repeated_tokens(
    d_vocab: int, n_rows: int, length: int, generator: torch.Generator, first: int | None = None
) -> Int[Tensor, "row pos"]:
    """Draw random tokens and say them twice.

    Args:
        length: tokens drawn a row; rows have twice as many.
        first: a token to begin every row with, for models that expect one.
    """
    once = torch.randint(d_vocab, (n_rows, length), generator=generator)
    begin = once[:, :0] if first is None else torch.full((n_rows, 1), first)
    return torch.cat([begin, once, once], 1)


@dataclass(frozen=True)
class HeadSums:
    """Sums of attention on the positions that detectors look for; sums of parts of a text add up to that of the whole.

    Attributes:
        attention: [detector, layer, head].
        even: what even attention would have given, [detector, layer].
        queries: queries that had such a position to look at, [detector, layer].
    """

    attention: Float[Tensor, "detector layer head"]
    even: Float[Tensor, "detector layer"]
    queries: Float[Tensor, "detector layer"]

    def __add__(self, other: HeadSums) -> HeadSums:
        return HeadSums(self.attention + other.attention, self.even + other.even, self.queries + other.queries)


@dataclass(frozen=True)
class HeadRow:
    """What one head looks at.

    Attributes:
        attention: mean attention on the positions that the detector looks for, 0 to 1.
        even_attention: the same of even attention over the visible positions.
        queries: how many queries the means are over; nan means where there are none.
    """

    layer: int
    head: int
    detector: Detector
    attention: float
    even_attention: float
    queries: int


def positions_of_detectors(tokens: Int[Tensor, "batch pos"]) -> dict[Detector, Bool[Tensor, "batch query key"]]:
    """Mark the positions that each detector looks for, for every query."""
    n_pos = tokens.shape[1]
    at = torch.arange(n_pos, device=tokens.device)
    earlier = at[:, None] > at
    same = tokens[:, :, None] == tokens[:, None, :]
    follows = torch.zeros_like(same)
    follows[:, :, 1:] = (same & earlier)[:, :, :-1]  # the key after an earlier place of the present token
    previous = (at[:, None] == at + 1).expand_as(same)
    return {"previous": previous, "duplicate": same & earlier, "induction": follows}


def sum_attention(spec: ModelSpec, run: Runner, tokens: Int[Tensor, "batch pos"]) -> HeadSums:
    """Add up the attention that every head pays to the positions that detectors look for.

    At a position right after its own token, the position that induction looks for is the position itself.
    """
    marked = torch.stack(list(positions_of_detectors(tokens).values()))  # [detector, batch, query, key]
    attention = torch.zeros(len(DETECTORS), spec.n_layers, spec.n_heads, dtype=torch.float64)
    even = torch.zeros(len(DETECTORS), spec.n_layers, dtype=torch.float64)
    queries, n_pos = torch.zeros_like(even), tokens.shape[1]

    def watch(site: str, value: Tensor) -> Tensor:
        if site.endswith("attn.hook_pattern"):
            layer = int(site.split(".")[1])
            visible = visible_keys(n_pos, n_pos, spec.windows[layer], tokens.device)
            seen = (marked & visible).to(value.dtype)
            attention[:, layer] = torch.einsum("bhqk,tbqk->th", value, seen).double().cpu()
            even[:, layer] = (seen.sum(-1) / visible.sum(-1)).sum((1, 2)).double().cpu()
            queries[:, layer] = (seen.sum(-1) > 0).sum((1, 2)).double().cpu()
        return value

    with torch.no_grad():
        run(tokens, watch)
    return HeadSums(attention, even, queries)


def score_heads(
    spec: ModelSpec, run: Runner, rows: Int[Tensor, "row pos"], rows_at_once: int = 8, progress: Progress = silent
) -> list[HeadRow]:
    """Score every head of a model by every detector, on random repeated tokens or on text.

    Raises:
        ConfigError: there are no rows.
    """
    if not rows.numel():
        raise ConfigError("detecting heads: found no tokens, expected rows of text or of repeated tokens; give some")
    total: HeadSums | None = None
    for start in range(0, len(rows), rows_at_once):
        part = sum_attention(spec, run, rows[start : start + rows_at_once])
        total = part if total is None else total + part
        progress("patterns", min(start + rows_at_once, len(rows)), len(rows))
    assert total is not None
    return tabulate_heads(total)


def tabulate_heads(sums: HeadSums) -> list[HeadRow]:
    """Take the means, one row a head and detector."""
    attention, even = sums.attention / sums.queries[..., None], sums.even / sums.queries
    return [
        HeadRow(
            layer, head, detector, float(attention[i, layer, head]), float(even[i, layer]), int(sums.queries[i, layer])
        )
        for layer in range(attention.shape[1])
        for head in range(attention.shape[2])
        for i, detector in enumerate(DETECTORS)
    ]


@dataclass(frozen=True)
class CopyRow:
    """How much a head's OV circuit, from embedding to unembedding, votes for the token that it reads.

    Attributes:
        eigenvalue_magnitude: sum of the magnitudes of the circuit's eigenvalues; where it is tiny beside that of other
            heads, the shares say nothing.
        eigenvalue_share: sum of the circuit's eigenvalues over the sum of their magnitudes, -1 to 1: near 1 for heads
            that copy, near 0 for any others (Elhage et al. 2021).
        copied_share: share of tokens that the head, reading their embedding, votes for above all others.
        chance_share: the same of a head that votes at random.
    """

    layer: int
    head: int
    eigenvalue_magnitude: float
    eigenvalue_share: float
    copied_share: float
    chance_share: float


def score_copying(spec: ModelSpec, weights: Mapping[str, Tensor], tokens: Sequence[int] | None = None) -> list[CopyRow]:
    """Score what every head's OV circuit copies, from the weights alone.

    Every head reads embeddings through its layer's norm and writes to the unembedding through the last norm, with
    scales left out; what other layers do on the way is not seen.

    Args:
        tokens: those to count copies of; by default all.
    """
    asked = torch.arange(spec.d_vocab) if tokens is None else torch.as_tensor(tokens)
    found: list[CopyRow] = []
    for layer in range(spec.n_layers):
        part = f"blocks.{layer}.attn"
        reader = reading(spec, weights, f"blocks.{layer}.ln1")
        for head in range(spec.n_heads):
            own, d = head * spec.n_kv_heads // spec.n_heads, spec.d_head
            value = reader.fold(weights[f"{part}.W_V"][:, own * d : (own + 1) * d])[0]
            out = weights[f"{part}.W_O"][head * d : (head + 1) * d]
            read = weights["embed.W_E"] @ value  # [d_vocab, d_head]
            # votes of the rows of W_O, then the same non-zero eigenvalues in d_head dimensions
            small = votes(spec, weights, out).double() @ read.double()
            values = torch.linalg.eigvals(small)
            magnitude = float(values.abs().sum())
            copied = 0
            for chunk in asked.split(TOKENS_AT_ONCE):
                voted = votes(spec, weights, read[chunk] @ out)
                own_vote = voted.gather(1, chunk[:, None])
                copied += int(((voted < own_vote).sum(1) == spec.d_vocab - 1).sum())
            share = float(values.real.sum()) / magnitude if magnitude else 0.0
            found.append(CopyRow(layer, head, magnitude, share, copied / len(asked), 1 / spec.d_vocab))
    return found
