"""Names in emitted code: short Python identifiers for sites and tables, and a line that says what a site is for."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "hook_embed": "what this token means before anything else is known",
        "hook_pos_embed": "what it means to stand at this position",
        "hook_resid_pre": "all that is known at this position when the layer begins",
        "ln1.hook_normalized": "the same at a common scale, for attention to read",
        "attn.hook_q": "what each head looks for from here",
        "attn.hook_k": "what this position shows to heads that look back at it",
        "attn.hook_v": "the value that a head takes from here when it looks here",
        "attn.hook_rot_q": "turned by position, so that a match depends on how far back it lies",
        "attn.hook_rot_k": "turned by position, so that a match depends on how far back it lies",
        "attn.hook_z": "each head looks back and takes a mix of the values there",
        "hook_attn_out": "the outputs of the heads, written in the language of the residual stream",
        "hook_resid_mid": "all that is known once the outputs of the heads are added",
        "ln2.hook_normalized": "the same at a common scale, for the MLP to read",
        "mlp.hook_pre": "how strongly each neuron is called on",
        "mlp.hook_act": "how far each neuron opens its gate",
        "mlp.hook_pre_linear": "what would pass through each gate",
        "mlp.hook_post": "how strongly each neuron fires",
        "hook_mlp_out": "what the neurons add, written in the language of the residual stream",
        "hook_resid_post": "all that is known when the layer ends",
        "moved.pre": "how strongly the outputs of the heads call on each moved feature",
        "moved.positive": "the same, where it is in favour of the feature",
        "moved": "moved features: what the heads moved here from earlier positions, the strongest few",
        "moved.out": "what the moved features write",
        "hook_attn_out.before": "the outputs of the heads, before they are taken apart into features",
        "rules.pre": "how far the condition of each rule is met",
        "rules.positive": "the same, where it is met at all",
        "rules": "rules that fire, the strongest few",
        "rules.out": "what the rules that fire write",
        "hook_mlp_out.token": "what this token adds by itself, whatever stands before it",
        "hook_mlp_out.before": "what the target's own MLP would add",
        "hook_attn_out.explained": "the part of it that features explain",
        "hook_mlp_out.explained": "the part of it that features explain",
        "hook_attn_out.error": "ERROR BLOCK: what no feature explains",
        "hook_mlp_out.error": "ERROR BLOCK: what no feature explains",
        "ln_final.hook_normalized": "all that is known, at a common scale, for the last reading",
        "hook_logits": "a score for every token that may come next",
        "log_probs": "the scores as natural-log probabilities",
    }
)


def purpose(variable: str) -> str | None:
    """Say what the variable at a site is for, or ``None`` for a name that is no known site."""
    match = _LAYER.fullmatch(variable)
    return PURPOSES.get(match[2] if match else variable)


def short_name(name: str) -> str:
    """Shorten a site or table name: ``blocks.0.attn.hook_q`` is ``q_0``, ``embed.W_E`` is ``W_E``."""
    match = _LAYER.fullmatch(name)
    layer, rest = (f"_{match[1]}", match[2]) if match else ("", name)
    parts = [part.removeprefix("hook_") or part for part in rest.split(".")]
    if parts[0] in ("attn", "mlp", "embed", "pos_embed", "unembed") and len(parts) == 2:
        own = parts[1]
        parts = [own] if own[:2] in ("W_", "b_") or parts[0] == "attn" else parts
    short = re.sub(r"\W", "_", "_".join(parts)) + layer
    return short if not short[0].isdigit() else f"_{short}"


def identifiers(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Give every name its own identifier, none of them a keyword, a builtin or already taken; in order, so stably."""
    used = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *taken}
    given: dict[str, str] = {}
    for name in names:
        short = base = short_name(name)
        count = 1
        while short in used:
            count += 1
            short = f"{base}_{count}"
        used.add(short)
        given[name] = short
    return given
