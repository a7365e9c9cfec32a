"""Names in emitted code."""

from __future__ import annotations

import builtins
import keyword

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.emit.naming import PURPOSES, identifiers, purpose, short_name

WORDS = st.sampled_from(
    ["hook_", "hook_q", "attn", "mlp", "embed", "blocks", "W_Q", "0", "12", "_", "a", "class", "sum"]
)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map(".".join) | st.from_regex(
    r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True
)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("blocks.0.attn.hook_q", "q_0"),
        ("blocks.11.attn.hook_rot_k", "rot_k_11"),
        ("blocks.3.attn.W_Q", "W_Q_3"),
        ("blocks.3.mlp.W_in", "W_in_3"),
        ("blocks.3.mlp.b_in", "b_in_3"),
        ("blocks.3.mlp.hook_post", "mlp_post_3"),
        ("blocks.3.hook_resid_mid", "resid_mid_3"),
        ("blocks.3.ln1.hook_normalized", "ln1_normalized_3"),
        ("embed.W_E", "W_E"),
        ("pos_embed.W_pos", "W_pos"),
        ("unembed.W_U", "W_U"),
        ("hook_embed", "embed"),
        ("hook_logits", "logits"),
        ("ln_final.w", "ln_final_w"),
        ("log_probs", "log_probs"),
        ("hook_", "hook_"),
        ("attn.hook_", "hook_"),
        ("blocks.0.hook_", "hook__0"),
        ("blocks.0.1", "_1_0"),
    ],
)
def test_sites_and_tables_have_short_names(name: str, short: str) -> None:
    assert short_name(name) == short


@given(st.lists(NAMES, unique=True, max_size=12), st.lists(NAMES.map(short_name), max_size=4))
@settings(deadline=None, max_examples=200)
def test_every_name_gets_an_identifier_of_its_own(names: list[str], taken: list[str]) -> None:
    given_names = identifiers(names, taken)
    assert list(given_names) == names
    chosen = list(given_names.values())
    assert len(set(chosen)) == len(chosen)
    assert not set(chosen) & {*taken, *dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    assert all(name.isidentifier() for name in chosen)


@given(st.lists(NAMES, unique=True, min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_names_that_come_later_change_none_before_them(names: list[str]) -> None:
    early = identifiers(names[:-1], ("step",))
    assert {name: identifiers(names, ("step",))[name] for name in early} == early


def test_names_that_shorten_alike_are_numbered() -> None:
    assert identifiers(["a.b", "a_b", "a.hook_b", "sum", "step"], ["step"]) == {
        "a.b": "a_b",
        "a_b": "a_b_2",
        "a.hook_b": "a_b_3",
        "sum": "sum_2",
        "step": "step_2",
    }
    assert identifiers(["a_b_2", "a.b", "a_b"], []) == {"a_b_2": "a_b_2", "a.b": "a_b", "a_b": "a_b_3"}


def test_known_sites_have_a_purpose_in_every_layer() -> None:
    assert purpose("hook_embed") == PURPOSES["hook_embed"]
    assert purpose("blocks.0.attn.hook_q") == purpose("blocks.17.attn.hook_q") == PURPOSES["attn.hook_q"]
    assert purpose("blocks.x.attn.hook_q") is None
    assert purpose("blocks.0") is None
    assert purpose("something.else") is None
    assert all("\n" not in told and told.isascii() for told in PURPOSES.values())
