"""A sparse model that leaves nothing out is the target with its dictionaries, but for the norm's scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.losses import kl_nats
from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec
from englishroom.sparse.config import StartConfig
from englishroom.sparse.start import hats, start
from tiny_features import SPEC
from tiny_sparse import ALL_KINDS, rotary, started, text, transcoded, windowed


@pytest.mark.parametrize("spec", [SPEC, windowed(), rotary()], ids=["gpt2", "gpt_neo", "llama"])
def test_it_says_what_the_target_says(spec: ModelSpec) -> None:
    """Kinds of as many words as there are tokens lose little, so what is left is loudness and stations."""
    replacement, rows = transcoded(spec), text(spec)
    model = started(replacement, rows)
    tokens = torch.from_numpy(rows.rows(range(12)))
    with torch.no_grad():
        expected = replacement.logits(replacement.run(tokens)).flatten(0, 1)
        ours = model.run(tokens)
        shuffled = expected[torch.randperm(len(expected), generator=torch.Generator().manual_seed(0))]
        close, far = (float(kl_nats(expected, other)[0].mean()) for other in (ours, shuffled))
    assert close < 0.2 * far


def test_the_parts_are_the_targets_own_where_nothing_is_approximated() -> None:
    """Moved features reach the rules by the very product of directions and matrices."""
    replacement, rows = transcoded(), text()
    model = started(replacement, rows)
    weights = {name: tensor.double() for name, tensor in replacement.weights.items()}
    moved, rules = (d.weights for d in replacement.dictionaries[:2])
    out, norm = moved["W_dec"].double(), weights["blocks.0.ln2.w"]
    expected = (out - out.mean(1, keepdim=True)) * norm @ rules["W_enc"].double()
    found = model.tables[2]["moved.0"].matrix()[:, :-1]
    assert torch.allclose(found.double(), expected, atol=1e-5)
    expected = weights["blocks.0.attn.W_O"] @ moved["W_enc"].double()
    found = model.tables[1]["brought.0"].matrix()[:, :-1].double()
    for own in torch.arange(len(expected)).split(SPEC.d_head):  # but for a rotation of each head's numbers
        assert torch.allclose(found[own].T @ found[own], expected[own].T @ expected[own], atol=1e-5)


def test_stations_share_every_position() -> None:
    for n_ctx in (1, 2, 7, 256, 1000):
        table = hats(n_ctx)
        assert torch.allclose(table.sum(1), torch.ones(n_ctx, dtype=torch.float64))
        assert int((table > 0).sum(1).max()) <= 2
        assert (table >= 0).all()


def test_what_cannot_start_is_refused() -> None:
    replacement, rows = transcoded(), text()
    first = torch.from_numpy(rows.rows([0, 1]))
    frequencies = torch.ones(SPEC.d_vocab)
    with pytest.raises(ConfigError, match="one dictionary for each attention output"):
        start(
            replace(replacement, dictionaries=replacement.dictionaries[:1], tables={}), first, frequencies, ALL_KINDS, 0
        )
    first_moved, rules, *others = replacement.dictionaries
    spec = replace(rules.spec, skip=True)
    weights = rules.weights
    skipping = Dictionary.of(spec, {**weights, "W_skip": torch.zeros(8, 8)})
    with pytest.raises(ConfigError, match="without a skip"):
        start(replace(replacement, dictionaries=(first_moved, skipping, *others)), first, frequencies, ALL_KINDS, 0)
    with pytest.raises(ConfigError, match="1 or more"):
        StartConfig(n_kinds=0).validate()
