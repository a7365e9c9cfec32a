"""The forward pass against itself: with and without a tap, all at once and bit by bit, whole and intervened on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from englishroom.models.forward import Cache, forward, log_probs, rotary_angles
from englishroom.models.load import Target, in_precision, load_target
from tiny import CASES, random_tokens

N_POS = 24
SPLITS = {"one by one": [1] * N_POS, "in chunks": [7, 1, 2, 9, 1, 4], "prompt then one by one": [18] + [1] * 6}


@pytest.fixture(scope="module", params=CASES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def target(path: Path) -> Target:
    return in_precision(load_target(str(path)), torch.float64)


@pytest.fixture
def tokens(path: Path) -> Tensor:
    return random_tokens(path, batch=2, n_pos=N_POS)


def sites(target: Target, tokens: Tensor, cache: Cache | None = None) -> dict[str, Tensor]:
    """Read the value at every site."""
    found: dict[str, Tensor] = {}

    def keep(site: str, value: Tensor) -> Tensor:
        assert site not in found, "a site is passed once"
        found[site] = value
        return value

    logits = forward(target.spec, target.weights, tokens, tap=keep, cache=cache)
    assert found["hook_logits"] is logits
    return found


def replacing(**values: Callable[[Tensor], Tensor]) -> Callable[[str, Tensor], Tensor]:
    """Make a tap that changes the values at some sites (dots of their names written as __)."""
    changes = {name.replace("__", "."): change for name, change in values.items()}

    def tap(site: str, value: Tensor) -> Tensor:
        return changes[site](value) if site in changes else value

    return tap


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def test_a_tap_that_changes_nothing_changes_nothing(target: Target, tokens: Tensor):
    fused = forward(target.spec, target.weights, tokens)
    assert distance(sites(target, tokens)["hook_logits"], fused) < 1e-12


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("tapped", [False, True], ids=["fused", "tapped"])
def test_reading_bit_by_bit_is_reading_all_at_once(split: str, tapped: bool, target: Target, tokens: Tensor):
    whole = forward(target.spec, target.weights, tokens)
    cache, logits = Cache(), []
    for part in tokens.split(SPLITS[split], dim=1):
        tap = (lambda _site, value: value) if tapped else None
        logits.append(forward(target.spec, target.weights, part, tap=tap, cache=cache))
    assert cache.length == N_POS
    assert distance(torch.cat(logits, dim=1), whole) < 1e-12


def test_sites_read_bit_by_bit_are_those_read_all_at_once(target: Target, tokens: Tensor):
    whole, cache, done = sites(target, tokens), Cache(), 0
    for part in tokens.split(SPLITS["in chunks"], dim=1):
        new = slice(done, done := done + part.shape[1])
        for site, value in sites(target, part, cache).items():
            if site.endswith(("hook_pattern", "hook_attn_scores")):  # [batch, head, query, key]
                expected = whole[site][:, :, new, :done]
            elif site == "hook_pos_embed":  # [pos, d_model]
                expected = whole[site][new]
            else:
                expected = whole[site][:, new]
            assert torch.allclose(value, expected, rtol=0, atol=1e-12), site


def test_no_position_reads_what_comes_after_it(target: Target, tokens: Tensor):
    changed = tokens.clone()
    changed[:, 15] = (changed[:, 15] + 1) % target.spec.d_vocab
    before, after = (forward(target.spec, target.weights, t) for t in (tokens, changed))
    assert distance(before[:, :15], after[:, :15]) < 1e-12
    assert distance(before[:, 15], after[:, 15]) > 1e-3


def test_patterns_are_shares_of_the_positions_in_the_window(target: Target, tokens: Tensor):
    query, key = torch.arange(N_POS)[:, None], torch.arange(N_POS)[None, :]
    found = sites(target, tokens)
    for layer, window in enumerate(target.spec.windows):
        pattern = found[f"blocks.{layer}.attn.hook_pattern"]
        assert pattern.shape == (2, target.spec.n_heads, N_POS, N_POS)
        visible = (key <= query) & (query - key < (window or N_POS))
        assert torch.equal(pattern > 0, visible.expand_as(pattern))
        assert (pattern.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("site", "matrix", "bias"),
    [("hook_attn_out", "attn.W_O", "attn.b_O"), ("hook_mlp_out", "mlp.W_out", "mlp.b_out")],
)
def test_zeroing_an_output_is_zeroing_the_weights_that_write_it(
    site: str, matrix: str, bias: str, target: Target, tokens: Tensor
):
    last = f"blocks.{target.spec.n_layers - 1}"
    tapped = forward(target.spec, target.weights, tokens, tap=replacing(**{f"{last}.{site}": torch.zeros_like}))
    zeroed = {f"{last}.{part}" for part in (matrix, bias)} & set(target.weights)
    weights = {name: torch.zeros_like(t) if name in zeroed else t for name, t in target.weights.items()}
    assert distance(tapped, forward(target.spec, weights, tokens)) < 1e-12
    assert distance(tapped, forward(target.spec, target.weights, tokens)) > 1e-2


def test_zeroing_a_head_is_zeroing_its_rows_of_the_output_matrix(target: Target, tokens: Tensor):
    head, d_head = target.spec.n_heads - 1, target.spec.d_head

    def without_head(z: Tensor) -> Tensor:  # [batch, pos, head, d_head]
        return z * (torch.arange(z.shape[2]) != head)[:, None]

    tapped = forward(target.spec, target.weights, tokens, tap=replacing(blocks__0__attn__hook_z=without_head))
    w_o = target.weights["blocks.0.attn.W_O"].clone()
    w_o[head * d_head : (head + 1) * d_head] = 0
    assert distance(tapped, forward(target.spec, target.weights | {"blocks.0.attn.W_O": w_o}, tokens)) < 1e-12
    assert distance(tapped, forward(target.spec, target.weights, tokens)) > 1e-3


def test_a_replaced_pattern_mixes_the_values(target: Target, tokens: Tensor):
    """Where every position attends to itself alone, each head's mix is its group's value."""
    mixed: dict[str, Tensor] = {}

    def tap(site: str, value: Tensor) -> Tensor:
        if site == "blocks.0.attn.hook_pattern":
            value = torch.eye(N_POS, dtype=value.dtype).expand_as(value)
        mixed[site] = value
        return value

    forward(target.spec, target.weights, tokens, tap=tap)
    group = target.spec.n_heads // target.spec.n_kv_heads
    values = mixed["blocks.0.attn.hook_v"].repeat_interleave(group, dim=2)
    assert distance(mixed["blocks.0.attn.hook_z"], values) < 1e-12


def test_replacing_the_scores_replaces_the_pattern(target: Target, tokens: Tensor):
    """Equal scores are uniform attention, whatever queries and keys say; zero queries give equal scores."""

    def level(scores: Tensor) -> Tensor:
        return torch.where(scores.isinf(), scores, 0.0)

    by_scores = forward(target.spec, target.weights, tokens, tap=replacing(blocks__0__attn__hook_attn_scores=level))
    site = "hook_rot_q" if target.spec.rotary_theta else "hook_q"
    by_queries = forward(
        target.spec, target.weights, tokens, tap=replacing(**{f"blocks.0.attn.{site}": torch.zeros_like})
    )
    assert distance(by_scores, by_queries) < 1e-12
    if target.spec.windows[0] != 1:  # with a window of 1 the pattern is the same either way
        assert distance(by_scores, forward(target.spec, target.weights, tokens)) > 1e-3


def test_replacing_the_first_residual_replaces_the_text(target: Target, tokens: Tensor):
    other = tokens.flip(1)
    other_resid = sites(target, other)["blocks.0.hook_resid_pre"]
    tapped = forward(
        target.spec, target.weights, tokens, tap=replacing(blocks__0__hook_resid_pre=lambda _: other_resid)
    )
    assert distance(tapped, forward(target.spec, target.weights, other)) < 1e-12


def test_log_probabilities_are_normalised_logits(target: Target, tokens: Tensor):
    answer = log_probs(target.spec, target.weights, tokens)
    assert answer.logsumexp(-1).abs().max() < 1e-12
    logits = forward(target.spec, target.weights, tokens)
    difference = logits - answer
    assert distance(difference, difference[..., :1].expand_as(difference)) < 1e-12


def test_rotary_angles_do_not_lose_precision_at_far_positions(tmp_path: Path):
    spec = load_target(str(CASES["llama-untied"].write(tmp_path))).spec
    near = rotary_angles(spec, 100_000, 3, torch.zeros((), dtype=torch.float32))
    exact = rotary_angles(spec, 100_000, 3, torch.zeros((), dtype=torch.float64))
    for rounded, value in zip(near, exact, strict=True):
        assert rounded.dtype == torch.float32
        assert distance(rounded.double(), value) < 1e-7


def test_parameters_are_counted_as_transformers_counts_them(path: Path):
    target = load_target(str(path))
    assert target.parameter_count == sum(tensor.numel() for tensor in target.weights.values())
    if target.kind == "huggingface":
        model = transformers.AutoModelForCausalLM.from_pretrained(path)
        assert target.parameter_count == model.num_parameters()
