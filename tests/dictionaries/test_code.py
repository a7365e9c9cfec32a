"""Sparse codes: the compiled kernels against plain torch, and gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from englishroom.dictionaries.code import (
    Codes,
    JumpMap,
    SparseMap,
    batch_top_codes,
    by_latent,
    decode,
    find_codes,
    find_codes_by_shortlist,
)
from englishroom.kernels import codes as kernels
from englishroom.kernels.threads import run

D_IN, D_OUT, N = 6, 5, 40


def weights(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = ((D_IN, N), (N,), (N, D_OUT), (D_OUT,))
    w_enc, b_enc, w_dec, b_dec = (torch.randn(size, generator=g, dtype=dtype) for size in sizes)
    return by_latent(w_enc), b_enc, w_dec, b_dec


def inputs(rows: int = 30, seed: int = 1) -> Tensor:
    return torch.randn(rows, D_IN, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_top_k(pre: Tensor, k: int) -> Tensor:
    """Keep the k largest positive entries by sorting, ties to the lower index."""
    order = torch.argsort(pre, dim=1, descending=True, stable=True)[:, :k]
    kept = torch.zeros_like(pre).scatter(1, order, 1.0)
    return pre.relu() * kept


@given(st.integers(1, 60), st.integers(1, 300), st.integers(1, 40), st.integers(0, 9), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_top_k_keeps_what_sorting_keeps_ties_and_few_positives_included(rows, n, k, seed, levels):
    k = min(k, n)
    pre = torch.from_numpy(np.random.default_rng(seed).integers(-levels, levels + 1, (rows, n)).astype(np.float32))
    indices, values, counts = kernels.empty_codes(rows, k, np.float32)
    indices += 7  # what stood there before must not shine through
    run(kernels.top_k, rows, pre.numpy(), np.float32(0), indices, values, counts)
    codes = Codes(*(torch.from_numpy(part) for part in (indices, values, counts)))
    assert torch.equal(codes.dense(n), dense_top_k(pre, k))
    assert (counts == (values > 0).sum(1)).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_kernels_answer_alike_whatever_the_number_of_threads(threads):
    w = [t.float() for t in weights()]
    w[0] = by_latent(w[0])
    x = inputs().float()
    codes = find_codes(x, w[0], w[1], 5)
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            leaves = [t.clone().requires_grad_() for t in (x, *w)]
            out = SparseMap.apply(*leaves, codes)
            out.square().sum().backward()
            found.append([out.detach(), *(leaf.grad for leaf in leaves[:-1])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_equal_rows_have_equal_slots_whatever_stands_between_them():
    """The order of slots is the order of sums, so equal rows must not differ by what was guessed from others."""
    g = torch.Generator().manual_seed(0)
    pre = torch.randn(1, 24, generator=g).repeat(40, 1)
    pre[1::3] = 3 * torch.randn(13, 24, generator=g)
    pre[2::3] = 0.3 * torch.randn(13, 24, generator=g)
    codes = kernels.empty_codes(40, 4, np.float32)
    run(kernels.top_k, 40, pre.numpy(), np.float32(0), *codes)
    assert len(np.unique(codes[0][::3], axis=0)) == len(np.unique(codes[1][::3], axis=0)) == 1


def test_codes_in_chunks_are_those_of_the_whole(monkeypatch):
    w_enc, b_enc, *_ = weights()
    whole = find_codes(inputs(), w_enc, b_enc, 4)
    cut = find_codes(inputs(), w_enc, b_enc, thresholds=torch.full((N,), 0.5, dtype=torch.float64))
    monkeypatch.setattr("englishroom.dictionaries.code.CHUNK_NUMBERS", 7 * N)
    assert torch.allclose(find_codes(inputs(), w_enc, b_enc, 4).dense(N), whole.dense(N))
    again = find_codes(inputs(), w_enc, b_enc, thresholds=torch.full((N,), 0.5, dtype=torch.float64))
    assert torch.allclose(again.dense(N), cut.dense(N))
    pre = inputs() @ w_enc + b_enc
    assert torch.allclose(cut.dense(N), pre * (pre > 0.5))


@pytest.mark.parametrize("k", [1, 16, 60])
def test_a_shortlist_finds_what_the_whole_search_finds(k, monkeypatch):
    monkeypatch.setattr("englishroom.dictionaries.code.has_bfloat16", lambda: True)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 128, generator=g)
    w_enc, b_enc = by_latent(torch.randn(128, 500, generator=g) / 11), torch.randn(500, generator=g) / 10
    whole, listed = find_codes(x, w_enc, b_enc, k), find_codes_by_shortlist(x, w_enc, b_enc, k)
    same = ((whole.dense(500) > 0) == (listed.dense(500) > 0)).all(1)
    assert same.float().mean() > 0.99
    assert torch.allclose(whole.dense(500)[same], listed.dense(500)[same], atol=1e-5)  # float32, not rounded to 8 bits
    assert torch.equal(listed.counts, (listed.values > 0).sum(1).int())


def test_a_shortlist_leaves_out_what_is_not_positive(monkeypatch):
    monkeypatch.setattr("englishroom.dictionaries.code.has_bfloat16", lambda: True)
    x, w_enc = torch.eye(128)[:4], by_latent(torch.eye(128, 200))
    codes = find_codes_by_shortlist(x, w_enc, torch.full((200,), -0.5), 6)
    assert codes.counts.tolist() == [1] * 4
    assert torch.equal(codes.dense(200), 0.5 * torch.eye(4, 200))


def test_decoding_is_a_product_with_the_dense_codes():
    w_enc, b_enc, w_dec, b_dec = weights()
    codes = find_codes(inputs(), w_enc, b_enc, 3)
    assert torch.allclose(decode(codes, w_dec, b_dec), codes.dense(N) @ w_dec + b_dec)
    assert codes.firing(N).sum() == codes.counts.sum()


def test_decoding_one_row_leaves_the_bias_alone():
    w_enc, b_enc, w_dec, b_dec = weights()
    before = b_dec.clone()
    codes = find_codes(inputs(1), w_enc, b_enc, 3)
    assert torch.equal(decode(codes, w_dec, b_dec), decode(codes, w_dec, b_dec))
    assert torch.equal(b_dec, before)


def test_gradients_are_those_of_finite_differences():
    w_enc, b_enc, w_dec, b_dec = weights()
    x = inputs(4)

    def through(x, w_enc, b_enc, w_dec, b_dec):
        return SparseMap.apply(x, w_enc, b_enc, w_dec, b_dec, find_codes(x, w_enc, b_enc, 3))

    leaves = [t.clone().requires_grad_() for t in (x, w_enc, b_enc, w_dec, b_dec)]
    assert torch.autograd.gradcheck(through, leaves)


def test_kernels_and_plain_torch_have_the_same_gradients():
    w_enc, b_enc, w_dec, b_dec = weights()
    x = inputs()
    ours = [t.clone().requires_grad_() for t in (x, w_enc, b_enc, w_dec, b_dec)]
    plain = [t.clone().requires_grad_() for t in (x, w_enc, b_enc, w_dec, b_dec)]
    out = SparseMap.apply(*ours, find_codes(x, w_enc, b_enc, 3))
    expected = dense_top_k(plain[0] @ plain[1] + plain[2], 3) @ plain[3] + plain[4]
    assert torch.allclose(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert all(torch.allclose(a.grad, b.grad) for a, b in zip(ours, plain, strict=True))


def test_a_batch_keeps_its_largest_wherever_they_stand():
    w_enc, b_enc, *_ = weights()
    x = inputs()
    x[0] *= 10  # one row with far larger latents than the rest
    wide = find_codes(x, w_enc, b_enc, N)
    codes, bound = batch_top_codes(wide, 2 * len(x))
    pre = (x @ w_enc + b_enc).relu()
    largest = pre.flatten().sort(descending=True).values[: 2 * len(x)]
    assert bound == pytest.approx(float(largest[-1]))
    assert torch.allclose(codes.dense(N), pre * (pre >= bound - 1e-9))
    assert codes.counts[0] > 2
    assert batch_top_codes(Codes(wide.indices, wide.values * 0, wide.counts * 0), 5)[1] == 0.0


def test_thresholds_get_the_gradient_of_the_rectangle():
    w_enc, b_enc, w_dec, b_dec = weights()
    x, width = inputs(200), 0.4
    threshold = torch.full((N,), 0.7, dtype=torch.float64)
    leaves = [t.clone().requires_grad_() for t in (x, w_enc, b_enc, w_dec, b_dec, threshold)]
    out, count = JumpMap.apply(*leaves, width)
    pre = x @ w_enc + b_enc
    active = pre > 0.7
    assert torch.allclose(out, (pre * active) @ w_dec + b_dec)
    assert float(count.detach()) == pytest.approx(active.sum().item() / len(x))
    weight = torch.randn_like(out)
    ((out * weight).sum() + 3 * count).backward()
    close = (pre - 0.7).abs() < width / 2
    value_grad = weight @ w_dec.T
    expected = -((0.7 * value_grad + 3 / len(x)) * close).sum(0) / width
    assert torch.allclose(leaves[-1].grad, expected)
    assert torch.allclose(leaves[1].grad, x.T @ (value_grad * active))
    assert torch.allclose(leaves[0].grad, (value_grad * active) @ w_enc.T)
