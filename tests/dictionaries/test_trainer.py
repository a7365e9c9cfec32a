"""Training: dictionaries find the features that data was made of, count their dead, and take back their state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from englishroom.dictionaries.config import TrainerConfig
from englishroom.dictionaries.dictionary import Activation, Dictionary, DictionarySpec
from englishroom.dictionaries.train import Trainer, start_from, variances
from englishroom.errors import ConfigError

D, FEATURES, ON = 16, 24, 2
SITE, OUT, OUT_2 = "blocks.0.hook_attn_out", "blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"


def directions(seed: int, n: int = FEATURES, d: int = D) -> Tensor:
    w = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return w / w.norm(dim=1, keepdim=True)


def made(rows: int, seed: int) -> dict[str, Tensor]:
    """Make data of known features: what is read, and two other sites that the same features write."""
    g = torch.Generator().manual_seed(seed)
    on = torch.rand(rows, FEATURES, generator=g).argsort(1)[:, :ON]
    codes = torch.zeros(rows, FEATURES).scatter(1, on, 1 + torch.rand(rows, ON, generator=g))
    return {SITE: codes @ directions(0), OUT: codes @ directions(1) + 0.5, OUT_2: codes @ directions(2)}


def trained(spec: DictionarySpec, steps: int = 400, **config) -> tuple[Trainer, float]:
    values = made(2000, 5)
    start = start_from(
        Dictionary.random(spec, torch.Generator().manual_seed(0)), values, torch.Generator().manual_seed(1)
    )
    trainer = Trainer([start], TrainerConfig(rate=1e-2, dead_after=3000, **config), variances(values))
    loss, shares = torch.zeros(()), [1.0]
    for step in range(steps):
        loss, shares = trainer.local_losses(made(256, 1000 + step))
        trainer.step(loss, min(1.0, 2 * (steps - step) / steps))
    return trainer, shares[0]


def found_share(dictionary: Dictionary, expected: Tensor) -> float:
    """Return the share of known directions that some decoder row has (cosine above 0.95)."""
    rows = dictionary.weights["W_dec"]
    cosines = (rows / rows.norm(dim=1, keepdim=True)) @ (expected / expected.norm(dim=1, keepdim=True)).T
    return float((cosines.max(0).values > 0.95).float().mean())


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu"])
def test_an_autoencoder_finds_the_features(activation: Activation):
    trainer, fvu = trained(DictionarySpec(SITE, (SITE,), D, D, 32, activation, ON))
    (dictionary,) = trainer.trained()
    assert fvu < 0.12
    assert found_share(dictionary, directions(0)) > 0.7
    rows = made(500, 77)[SITE]
    codes = dictionary.encode(rows)
    assert float(codes.counts.double().mean()) == pytest.approx(ON, rel=0.3)
    wrong = dictionary.run(rows, codes)[0] - rows
    assert float(wrong.square().sum(1).mean()) / variances({SITE: rows})[SITE] < 0.15


def test_a_transcoder_finds_what_is_read_and_what_is_written():
    trainer, fvu = trained(DictionarySpec(SITE, (OUT,), D, D, 32, "topk", ON))
    assert fvu < 0.2
    assert found_share(trainer.trained()[0], directions(1)) > 0.7


def test_a_cross_layer_transcoder_writes_both_sites():
    trainer, fvu = trained(DictionarySpec(SITE, (OUT, OUT_2), D, D, 32, "topk", ON))
    (dictionary,) = trainer.trained()
    assert fvu < 0.12
    assert found_share(dictionary, torch.cat([directions(1), directions(2)], dim=1)) > 0.7
    assert set(dictionary.written(dictionary.run(made(3, 1)[SITE])[0])) == {OUT, OUT_2}


def test_a_skip_takes_over_what_is_linear():
    values = made(2000, 5)
    values[OUT] = values[SITE] @ directions(9, D, D) + 0.2 * values[OUT]
    with_skip = DictionarySpec(SITE, (OUT,), D, D, 8, "topk", 1, skip=True)
    losses = {}
    for spec in (with_skip, DictionarySpec(SITE, (OUT,), D, D, 8, "topk", 1)):
        start = start_from(
            Dictionary.random(spec, torch.Generator().manual_seed(0)), values, torch.Generator().manual_seed(1)
        )
        trainer = Trainer([start], TrainerConfig(rate=1e-2), variances(values))
        for _ in range(300):
            loss, shares = trainer.local_losses(values)
            trainer.step(loss, 1.0)
        losses[spec.skip] = shares[0]
    assert losses[True] < 0.1 < losses[False]


@pytest.mark.parametrize("auxiliary", [0.0, 1.0])
def test_dead_latents_are_counted_and_revived(auxiliary):
    spec = DictionarySpec(SITE, (SITE,), D, D, 32, "topk", ON)
    values = made(256, 5)
    start = start_from(
        Dictionary.random(spec, torch.Generator().manual_seed(0)), values, torch.Generator().manual_seed(1)
    )
    start.weights["b_enc"][:16] -= 8.0  # half of the latents cannot fire
    trainer = Trainer([start], TrainerConfig(rate=0.02, dead_after=1000, auxiliary=auxiliary), variances(values))
    for step in range(8):
        assert len(trainer.dead(0)) == 0 or step >= 1000 // 256
        trainer.step(trainer.local_losses(made(256, step))[0], 1.0)
    assert set(range(16)) <= set(trainer.dead(0).tolist())
    for step in range(600):
        trainer.step(trainer.local_losses(made(256, step))[0], 1.0)
    still = set(range(16)) & set(trainer.dead(0).tolist())
    assert len(still) == 16 if auxiliary == 0 else len(still) < 8


def test_state_goes_round():
    spec = DictionarySpec(SITE, (SITE,), D, D, 32, "jumprelu", ON)
    values = made(256, 5)
    start = start_from(
        Dictionary.random(spec, torch.Generator().manual_seed(0)), values, torch.Generator().manual_seed(1)
    )
    first = Trainer([start], TrainerConfig(), variances(values))
    for step in range(3):
        first.step(first.local_losses(made(256, step))[0], 1.0)
    second = Trainer([start], TrainerConfig(), variances(values))
    second.restore(copy.deepcopy(first.state()))  # as from a file
    for trainer in (first, second):
        for step in range(3, 6):
            trainer.step(trainer.local_losses(made(256, step))[0], 1.0)
    for a, b in zip(first.trained()[0].weights.values(), second.trained()[0].weights.values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first.silent[0], second.silent[0])


def test_decoder_rows_keep_unit_length():
    trainer, _ = trained(DictionarySpec(SITE, (SITE,), D, D, 32, "topk", ON), steps=5)
    assert torch.allclose(trainer.trained()[0].weights["W_dec"].norm(dim=1), torch.ones(32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "--rate is 0, expected above 0"),
        ({"clip": 0.0}, "--clip is 0, expected above 0"),
        ({"auxiliary": -1.0}, "--auxiliary is -1, expected 0 or more"),
        ({"dead_after": 0}, "--dead-after is 0, expected 1 or more"),
    ],
)
def test_senseless_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        TrainerConfig(**change).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "expected topk, batchtopk or jumprelu"),
        ({"k": 0}, "expected 1 to 32"),
        ({"k": None}, "k is None"),
        ({"writes": ()}, "must not be empty"),
        ({"d_in": 0}, "must not be empty"),
    ],
)
def test_senseless_dictionaries_are_refused(change, message):
    plain = {"reads": SITE, "writes": (SITE,), "d_in": D, "d_out": D, "n_latents": 32}
    with pytest.raises(ConfigError, match=message):
        DictionarySpec(**(plain | change))


def test_weights_of_another_shape_are_refused():
    spec = DictionarySpec(SITE, (SITE,), D, D, 32)
    good = Dictionary.random(spec, torch.Generator().manual_seed(0)).weights
    with pytest.raises(ConfigError, match=r"expected \{'W_enc'"):
        Dictionary(spec, {**good, "b_enc": torch.zeros(3)})


def test_offered_slots_move_latents_below_zero_up_where_that_helps_and_write_nothing():
    spec = DictionarySpec("in", ("in",), 2, 2, 2, "topk", 2)
    weights = {"W_enc": torch.eye(2), "b_enc": torch.full((2,), -5.0), "W_dec": torch.eye(2), "b_dec": torch.zeros(2)}
    x, wanted = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0]])  # latent 0 would help, latent 1 would not
    moved = {}
    for offer in (False, True):
        trainer = Trainer([Dictionary.of(spec, weights)], TrainerConfig(auxiliary=0, offer=offer), {"in": 1.0})
        out, codes, _ = trainer.run(0, x)
        assert torch.equal(out, torch.zeros(1, 2))
        assert codes.firing(2).tolist() == [0, 0]
        (out - wanted).square().sum().backward()
        moved[offer] = trainer.dictionaries[0].weights["b_enc"].grad
    assert moved[False].tolist() == [0, 0]
    assert moved[True][0] < 0  # against the gradient: up
    assert moved[True][1] == 0
