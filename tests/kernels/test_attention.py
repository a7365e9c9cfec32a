import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from englishroom.kernels.attention import attend_small, suits


def heads(*shape: int, seed: int = 0, size: float = 1.0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Mix in float64, scores spelt out."""
    q, k, v = q.double(), k.double(), v.double()
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    hidden = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    return ((q @ k.mT) * scale).masked_fill(hidden, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "n_pos", "d", "size"),
    [(3, 3, 2, 4, 1.0), (4, 2, 65, 8, 1.0), (2, 1, 130, 16, 3.0), (2, 2, 40, 32, 10.0)],
)
def test_the_mixture_and_its_gradients_are_those_of_scores_spelt_out(
    n_heads: int, n_kv_heads: int, n_pos: int, d: int, size: float
) -> None:
    q, k, v = (heads(2, n, n_pos, d, seed=n_pos + i) for i, n in enumerate((n_heads, n_kv_heads, n_kv_heads)))
    q = q * size
    weights = heads(2, n_heads, n_pos, d, seed=9)
    found: list[tuple[Tensor, ...]] = []
    for mixed_by in (attend_small, exact):
        given = [x.clone().requires_grad_() for x in (q, k, v)]
        out = mixed_by(*given, d**-0.5)
        found.append((out, *torch.autograd.grad((out * weights).sum(), given)))
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours.double(), expected.double(), rtol=1e-4, atol=2e-5 * size)


def test_a_score_far_above_those_before_it_loses_nothing() -> None:
    q, k, v = (heads(1, 1, 50, 8, seed=i) for i in range(3))
    q[0, 0, 20:], k[0, 0, 25] = 30.0, 30.0  # powers of two beyond what a float holds
    k[0, 0, 40] = -30.0
    ours, expected = attend_small(q, k, v, 1.0), exact(q, k, v, 1.0)
    assert torch.isfinite(ours).all()
    assert torch.allclose(ours.double(), expected, atol=2e-5)


def test_answers_do_not_depend_on_the_number_of_threads() -> None:
    q, k, v = (heads(3, 5, 33, 8, seed=i) for i in range(3))
    before = torch.get_num_threads()
    try:
        answers = []
        for n_threads in (1, 2, 7):
            torch.set_num_threads(n_threads)
            answers.append(attend_small(q, k, v, 0.3))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(answers[0], other) for other in answers[1:])


def test_what_it_is_not_made_for_is_left_to_torch() -> None:
    q = heads(1, 2, 10, 8)
    assert suits(q, None)
    assert not suits(q.double(), None)
    assert not suits(q[:, :, :1], None)
    assert not suits(heads(1, 2, 10, 6), None)
    assert not suits(heads(1, 2, 10, 64), None)
    assert not suits(q, torch.ones(10, 10, dtype=torch.bool))
    fused = F.scaled_dot_product_attention(q, q, q, is_causal=True, scale=0.5)
    assert torch.allclose(attend_small(q, q, q, 0.5), fused, atol=1e-5)
