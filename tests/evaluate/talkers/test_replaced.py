"""Targets whose blocks say nothing: against the same computed by hand, and under every way of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from englishroom.errors import ConfigError
from englishroom.evaluate.score import score
from englishroom.evaluate.talkers.replaced import ReplacedTalker, sites
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.forward import forward, unembedding
from englishroom.pipeline import open_talker
from tiny import CASES, random_tokens

PICKED = ("gpt2", "gpt_neo-untied-window-1", "llama-grouped-tied", "llama2c-grouped-untied")
HOW = ("zero", "mean", "random")


@pytest.fixture(scope="module", params=PICKED)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def talker(path: Path) -> TargetTalker:
    found = open_talker(str(path), check=False)
    assert isinstance(found, TargetTalker)
    return found


@pytest.fixture(scope="module")
def choosing(path: Path) -> NDArray:
    return random_tokens(path, batch=20, n_pos=30).numpy()


@pytest.fixture(scope="module")
def tokens(path: Path) -> NDArray:
    return random_tokens(path, batch=8, n_pos=24).numpy()[5:]


def replaced(talker: TargetTalker, how: str, choosing: NDArray, seed: int = 0) -> ReplacedTalker:
    return ReplacedTalker(talker.target, talker.tokenizer, how, choosing, seed)


def outputs(talker: TargetTalker, rows: NDArray) -> dict[str, Tensor]:
    """Read what every block puts out, each [row * pos, d_model]."""
    found: dict[str, Tensor] = {}
    forward(
        talker.target.spec,
        talker.target.weights,
        torch.from_numpy(rows),
        lambda site, value: (found.setdefault(site, value), value)[1],
    )
    return {site: found[site].reshape(-1, talker.target.spec.d_model) for site in sites(talker.target)}


def answers_to(talker: TargetTalker, tokens: NDArray, added: Tensor | float) -> NDArray:
    """Compute by hand what the target answers where its blocks add this to the residual."""
    spec, weights = talker.target.spec, talker.target.weights
    resid = weights["embed.W_E"][torch.from_numpy(tokens)] + added
    if spec.rotary_theta is None:
        resid = resid + weights["pos_embed.W_pos"][: tokens.shape[1]]
    gain = weights["ln_final.w"]
    if spec.norm == "rmsnorm":
        normalized = F.rms_norm(resid, gain.shape, gain, spec.norm_eps)
    else:
        normalized = F.layer_norm(resid, gain.shape, gain, weights["ln_final.b"], spec.norm_eps)
    return (normalized @ unembedding(spec, weights)).log_softmax(-1).numpy()


def test_there_are_two_blocks_a_layer(talker: TargetTalker):
    assert len(sites(talker.target)) == 2 * talker.target.spec.n_layers
    assert sites(talker.target)[:3] == ("blocks.0.hook_attn_out", "blocks.0.hook_mlp_out", "blocks.1.hook_attn_out")


def test_zero_leaves_the_embedding_alone(talker: TargetTalker, tokens: NDArray):
    found = ReplacedTalker(talker.target, talker.tokenizer, "zero").log_probs(tokens)
    assert np.allclose(found, answers_to(talker, tokens, 0.0), atol=1e-4)


def test_mean_adds_what_blocks_say_on_average(talker: TargetTalker, tokens: NDArray, choosing: NDArray):
    added = torch.stack([values.mean(0) for values in outputs(talker, choosing).values()]).sum(0)
    assert np.allclose(
        replaced(talker, "mean", choosing).log_probs(tokens), answers_to(talker, tokens, added), atol=1e-4
    )


def test_random_adds_what_blocks_said_somewhere(talker: TargetTalker, tokens: NDArray, choosing: NDArray):
    random, said = replaced(talker, "random", choosing), outputs(talker, choosing)
    read, added = torch.from_numpy(tokens), 0.0
    like = torch.zeros(*tokens.shape, talker.target.spec.d_model)
    chosen: list[list[int]] = []
    for site, values in said.items():
        drawn = random.replacement(site, like, read, 0)
        gaps, index = (drawn.reshape(-1, 1, drawn.shape[-1]) - values).abs().amax(-1).min(dim=1)
        assert float(gaps.max()) < 1e-4
        chosen.append(index.tolist())
        added = added + drawn
    assert np.allclose(random.log_probs(tokens), answers_to(talker, tokens, added), atol=1e-4)
    assert chosen[0] != chosen[1], "every site draws for itself"
    assert len(set(chosen[0])) > 0.8 * 600 * (1 - np.exp(-tokens.size / 600))


def test_the_draw_is_even_and_depends_on_position_token_and_seed(talker: TargetTalker, choosing: NDArray):
    site, d_vocab = sites(talker.target)[1], talker.target.spec.d_vocab
    read = torch.arange(d_vocab).repeat(40, 1)
    like = torch.zeros(*read.shape, talker.target.spec.d_model)

    def drawn(seed: int) -> Tensor:
        return replaced(talker, "random", choosing, seed).replacement(site, like, read, 0)[..., 0]

    first = drawn(0)
    assert torch.equal(first[0], first[1])
    for other in (drawn(1), drawn(-1)):
        assert float((first == other).float().mean()) < 0.02
    one_token = torch.full((1, 10_000), 7)
    said = outputs(talker, choosing)[site][:, 0]
    values = replaced(talker, "random", choosing).replacement(
        site, torch.zeros(1, 10_000, talker.target.spec.d_model), one_token, 0
    )[0, :, 0]
    assert float(values.mean()) == pytest.approx(float(said.mean()), abs=5 * float(said.std()) / 100)
    counts = values.unique(return_counts=True)[1]
    assert len(counts) == len(said.unique())
    assert int(counts.max()) < 50


@pytest.mark.parametrize("how", HOW)
def test_all_ways_of_reading_agree(how: str, talker: TargetTalker, tokens: NDArray, choosing: NDArray):
    found = replaced(talker, how, choosing)
    whole = found.log_probs(tokens)
    assert whole.shape == (*tokens.shape, talker.target.spec.d_vocab)
    reading = found.stream()
    parts = [reading.extend(part) for part in np.split(tokens, [1, 2, 9, 15], axis=1)]
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)
    alone = np.concatenate([found.log_probs(row[None, :11]) for row in tokens])
    assert np.allclose(alone, whole[:, :11], atol=1e-4)
    again = replaced(talker, how, choosing).log_probs(tokens)
    assert np.array_equal(again, whole)


@pytest.mark.parametrize("how", HOW)
def test_they_are_scored_like_any_talker(how: str, talker: TargetTalker, choosing: NDArray):
    found = replaced(talker, how, choosing)
    assert found.name == f"{talker.name}, {how} replacement"
    assert score(found, ["abc", "cab abc"] if talker.target.kind == "huggingface" else ["abc", "cab"]).tokens > 3


def test_another_seed_draws_others(talker: TargetTalker, tokens: NDArray, choosing: NDArray):
    first, other = (replaced(talker, "random", choosing, seed).log_probs(tokens) for seed in (0, 1))
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "found no tokens for model, expected rows of text; give some text"),
        (np.zeros((1, 41), dtype=np.int64), "rows of 41 tokens, model reads 40; cut them"),
        (
            np.array([[0, 999]]),
            "tokens from 0 to 999, model knows 0 to {last}; encode the text with the model's own tokenizer",
        ),
    ],
)
@pytest.mark.parametrize("how", ["mean", "random"])
def test_choosing_text_that_will_not_do(how: str, rows: NDArray | None, message: str, talker: TargetTalker):
    with pytest.raises(ConfigError) as error:
        replaced(talker, how, rows)
    assert str(error.value) == f"{how} replacement: " + message.format(last=talker.target.spec.d_vocab - 1)
