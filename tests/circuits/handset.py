"""A small target whose weights are set by hand, and dictionaries for it that hold exactly what was put in.

What is in it (``target()``): two layers in GPT-2's style, learned positions, ReLU, an unembedding of its own.

- Tokens, positions, copies of the previous token and votes have directions of their own, all orthonormal and of mean
  zero, so LayerNorm's centring does nothing; its eps is so large beside any residual that its scale is constant and
  its gain undoes it, so every norm is the identity to about 1e-4.
- Layer 0, head ``PREVIOUS`` (0): attends to the position before, and writes ``prev[t]``, which token stood there. The
  first position can only attend to itself, so it says that its own token stood before it.
- Layer 0, head 1: all zero, attends evenly and writes nothing. So does layer 1, head 0.
- Layer 0, MLP: one rule, "at token ``IF``, vote for token ``THEN``"; its other neurons are zero.
- Layer 1, head ``INDUCTION`` (1): attends where the previous token was the present one, and votes for the token there.
  A bias of the query keeps it off the first position, which says the wrong thing. With no such place it attends evenly
  to the others, and each visible token gets a part of a vote: less than the rule's from the third position on.
- Layer 1, MLP: all zero.
- Logits are the votes, times ``SHARPNESS``.

The dictionaries (``replacement()``) have one latent for each thing written: ``moved.0`` latent t is ``prev[t]``,
``rule.0`` latent 0 is the rule, ``moved.1`` latent t is the vote for t that the induction head brings, ``rule.1`` never
fires.

``rows()`` draws texts: random tokens, said twice, so that the second half can be foretold.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec, weight_shapes

N_TOKENS, N_CTX, D_MODEL, D_HEAD, D_MLP = 12, 20, 64, 32, 4
PREVIOUS, INDUCTION = 0, 1
IF, THEN = 3, 7
SHARPNESS = 8.0
FOCUS = 30.0
"""Score of the place that a head attends to; all others have 0."""
RULE_VOTE = 0.6
EPS = 1e4

SPEC = ModelSpec(
    family="gpt2",
    n_layers=2,
    d_model=D_MODEL,
    n_heads=2,
    n_kv_heads=2,
    d_head=D_HEAD,
    d_mlp=D_MLP,
    d_vocab=N_TOKENS,
    n_ctx=N_CTX,
    activation="relu",
    norm="layernorm",
    norm_eps=EPS,
    gated_mlp=False,
    rotary_theta=None,
    attn_scale=1.0,
    windows=(None, None),
    tied=False,
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
)


@cache
def directions() -> dict[str, Tensor]:
    """Return the directions of tokens, positions, previous tokens and votes, each [n, d_model], all orthonormal."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
    drawn[:, 0] = 1.0
    rows = torch.linalg.qr(drawn)[0].T[1:].float()  # orthogonal to the vector of ones, so of mean zero
    sizes = {"token": N_TOKENS, "position": N_CTX, "prev": N_TOKENS, "vote": N_TOKENS}
    return dict(zip(sizes, rows[: sum(sizes.values())].split(list(sizes.values())), strict=True))


@cache
def target() -> Target:
    """Set the weights."""
    d = directions()
    w = {name: torch.zeros(shape) for name, shape in weight_shapes(SPEC).items()}
    w["embed.W_E"], w["pos_embed.W_pos"] = d["token"].clone(), d["position"].clone()
    for norm in ("blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2", "ln_final"):
        w[f"{norm}.w"] += EPS**0.5

    def set_head(layer: int, head: int, reads: dict[str, Tensor], writes: Tensor) -> None:
        """Let coordinate i of query, key and value read row i of what is given, and of the value write row i."""
        columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
        for letter, rows in reads.items():
            w[f"blocks.{layer}.attn.W_{letter}"][:, columns][:, : len(rows)] = rows.T
        w[f"blocks.{layer}.attn.W_O"][columns][: len(writes)] = writes

    before = d["position"][:-1]  # key at position i answers to queries at i + 1
    set_head(0, PREVIOUS, {"Q": FOCUS * d["position"][1:], "K": before, "V": d["token"]}, d["prev"])
    set_head(1, INDUCTION, {"Q": FOCUS * d["token"], "K": d["prev"], "V": d["token"]}, d["vote"])
    never = INDUCTION * D_HEAD + N_TOKENS  # a coordinate that only the query's bias and the first position use
    w["blocks.1.attn.b_Q"][never] = -2.0 * FOCUS
    w["blocks.1.attn.W_K"][:, never] = d["position"][0]
    w["blocks.0.mlp.W_in"][:, 0], w["blocks.0.mlp.b_in"][0] = 2.0 * d["token"][IF], -1.0
    w["blocks.0.mlp.W_out"][0] = RULE_VOTE * d["vote"][THEN]
    w["unembed.W_U"] = SHARPNESS * d["vote"].T.contiguous()
    return Target("handset", Path("handset"), "handset", SPEC, w, {}, "0" * 64)


@cache
def replacement() -> Replacement:
    """Make the dictionaries by hand and put them in place of every block."""
    d = directions()

    def hand(reads: str, writes: str, encoder: Tensor, bias: float, decoder: Tensor, threshold: float) -> Dictionary:
        n = len(encoder)
        spec = DictionarySpec(reads, (writes,), D_MODEL, D_MODEL, n, "jumprelu", None)
        weights = {"W_enc": encoder.T, "b_enc": torch.full((n,), bias), "W_dec": decoder}
        return Dictionary.of(spec, weights | {"b_dec": torch.zeros(D_MODEL), "threshold": torch.full((n,), threshold)})

    dictionaries = []
    for layer, moved in enumerate((d["prev"], d["vote"])):
        site, read = f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.ln2.hook_normalized"
        dictionaries.append(hand(site, site, moved, 0.0, moved, 0.4))
        rule = d["token"][IF : IF + 1] if layer == 0 else torch.zeros(1, D_MODEL)
        out = RULE_VOTE * d["vote"][THEN : THEN + 1]
        dictionaries.append(hand(read, f"blocks.{layer}.hook_mlp_out", 2.0 * rule, -1.0, out, 0.4))
    return Replacement(SPEC, target().weights, tuple(dictionaries))


def rows(n: int, seed: int = 0, shortest: int = N_CTX // 2) -> Tensor:
    """Draw texts, [row, pos], each of different tokens said again and again.

    Args:
        shortest: so many different tokens at least; at most half a text. If all texts have as many, what comes next
            stands at the same distance in all of them, and can be foretold without looking for the present token.
    """
    generator = torch.Generator().manual_seed(seed)
    longest = N_CTX // 2
    found = []
    for _ in range(n):
        once = torch.randperm(N_TOKENS, generator=generator)[:longest]
        if shortest < longest:
            once = once[: int(torch.randint(shortest, longest + 1, (1,), generator=generator))]
        found.append(once.repeat(-(-N_CTX // len(once)))[:N_CTX])
    return torch.stack(found)
