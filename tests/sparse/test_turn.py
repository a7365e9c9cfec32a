"""Turning a head's numbers: nothing is said differently, and fewer edges are large."""

from __future__ import annotations

import pytest
import torch

from englishroom.sparse.turn import turn, varimax
from tiny_sparse import started, text, transcoded


def test_a_turned_model_says_the_same() -> None:
    model = started(transcoded(), text())
    turned = turn(model)
    tokens = torch.from_numpy(text(seed=4).rows(range(6)))
    with torch.no_grad():
        assert torch.allclose(model.run(tokens), turned.run(tokens), atol=1e-4)
    before, after = (m.tables[0]["words"].matrix() for m in (model, turned))
    assert torch.allclose(before.norm(), after.norm(), rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_varimax_finds_what_was_mixed(seed: int) -> None:
    """Sparse loadings that were mixed by a rotation come back as sparse as they were."""
    generator = torch.Generator().manual_seed(seed)
    sparse = torch.randn(2000, 5, generator=generator) * (torch.rand(2000, 5, generator=generator) < 0.1)
    mixed = sparse @ torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    rotation = varimax(mixed)
    assert torch.allclose(rotation.T @ rotation, torch.eye(5), atol=1e-5)

    def size(loadings: torch.Tensor) -> float:
        return float(loadings.abs().sum())

    assert size(sparse) < 0.8 * size(mixed)
    assert size(mixed @ rotation) == pytest.approx(size(sparse), rel=0.05)
