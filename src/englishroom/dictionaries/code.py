"""Sparse codes: which latents are active at each row and how strongly, and maps through them that train.

Everything here works on rows [row, d]; on the CPU through :mod:`englishroom.kernels.codes`, elsewhere through torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.kernels import codes as kernels
from englishroom.kernels.threads import array, run

MARGIN = 8
"""Latents on a shortlist beyond those that are wanted."""
LEAST_D_IN = 128
"""Numbers read, from which on a shortlist is worth its while."""
CHUNK_NUMBERS = 2**19
"""Pre-activations formed at once (2 MB), so that they stay in cache until the largest are found."""


@dataclass(frozen=True)
class Codes:
    """The active latents of every row, in slots; unused slots hold latent 0 with value 0.

    Attributes:
        counts: used slots of each row; they come first.
    """

    indices: Int[Tensor, "row slot"]
    values: Float[Tensor, "row slot"]
    counts: Int[Tensor, " row"]

    def dense(self, n_latents: int) -> Float[Tensor, "row latent"]:
        """Spell the codes out, for reading and small cases."""
        full = self.values.new_zeros(len(self.counts), n_latents)
        return full.scatter_add_(1, self.indices.long(), self.values)

    def firing(self, n_latents: int) -> Float[Tensor, " latent"]:
        """Count the rows in which each latent is above zero."""
        if self.indices.device.type == "cpu":
            found = torch.zeros(n_latents, dtype=torch.float64)
            kernels.fire(*map(array, (self.indices, self.values, self.counts, found)))
            return found
        used = self.values > 0
        return torch.bincount(self.indices[used].long(), minlength=n_latents).to(torch.float64)


def find_codes(
    x: Float[Tensor, "row d_in"],
    w_enc: Float[Tensor, "d_in latent"],
    b_enc: Float[Tensor, " latent"],
    k: int | None = None,
    thresholds: Float[Tensor, " latent"] | None = None,
    lowest: float = 0.0,
) -> Codes:
    """Find the latents whose pre-activation ``x @ w_enc + b_enc`` is positive and large enough.

    Args:
        k: keep the ``k`` largest of each row.
        thresholds: keep those above their threshold (at least 0). Exactly one of the two is given.
        lowest: bound of the ``k`` largest; minus infinity in training, where a slot that would stay empty is offered to
            the latent that comes closest (see :class:`SparseMap`).
    """
    with torch.no_grad():
        if x.device.type == "cpu":
            return _find_on_cpu(x.contiguous(), w_enc, b_enc, k, thresholds, lowest)
        pre = torch.addmm(b_enc, x, w_enc)
        if k is not None:
            values, indices = pre.clamp(min=lowest).topk(min(k, pre.shape[1]), dim=1)
            counts = (values > lowest).sum(1)
            return Codes((indices * (values > lowest)).int(), values * (values > lowest), counts.int())
        assert thresholds is not None
        kept = pre * (pre > thresholds.clamp(min=0))
        width = int((kept > 0).sum(1).max()) if len(kept) else 0
        values, indices = kept.topk(width, dim=1)
        counts = (values > 0).sum(1)
        return Codes((indices * (values > 0)).int(), values, counts.int())


def find_codes_by_shortlist(
    x: Float[Tensor, "row d_in"],
    w_enc: Float[Tensor, "d_in latent"],
    b_enc: Float[Tensor, " latent"],
    k: int,
    lowest: float = 0.0,
) -> Codes:
    """Find the ``k`` largest latents of every row among a few more that are largest in bfloat16.

    Processors that know bfloat16 form that product twice as fast or more; the values returned are float32. A latent is
    missed only where rounding to 8 bits moves it past ``MARGIN`` others, so this is for training, where the odd swap of
    two nearly equal latents does no harm. On other processors, and for few inputs, it is :func:`find_codes`.
    """
    listed = k + MARGIN
    if x.shape[1] < LEAST_D_IN or x.device.type != "cpu" or listed >= w_enc.shape[1] or not has_bfloat16():
        return find_codes(x, w_enc, b_enc, k, lowest=lowest)
    with torch.no_grad():
        x = x.contiguous()
        low_x, low_w, low_b = x.bfloat16(), w_enc.bfloat16(), b_enc.bfloat16()
        n_latents = w_enc.shape[1]
        rows = max(1, CHUNK_NUMBERS // n_latents)
        buffer = torch.empty(min(rows, len(x)), n_latents)
        shortlist, rough, counts = kernels.empty_codes(len(x), listed, buffer.numpy().dtype)
        for start in range(0, len(x), rows):
            part = slice(start, min(len(x), start + rows))
            pre = buffer[: part.stop - start].copy_(torch.addmm(low_b, low_x[part], low_w)).numpy()
            found = (shortlist[part], rough[part], counts[part])
            run(kernels.top_k, len(pre), pre, pre.dtype.type(lowest), *found)
        pre = _dots(torch.from_numpy(shortlist), torch.from_numpy(counts), _rows(w_enc), x, b_enc)
        codes = kernels.empty_codes(len(x), k, rough.dtype)
        run(kernels.keep_top, len(x), shortlist, counts, pre.numpy(), rough.dtype.type(lowest), *codes)
        return Codes(*map(torch.from_numpy, codes))


@cache
def has_bfloat16() -> bool:
    """Say whether the processor multiplies bfloat16 matrices by itself (AMX tiles, or AVX-512)."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asked)


def _find_on_cpu(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int | None, thresholds: Tensor | None, lowest: float
) -> Codes:
    n_latents = w_enc.shape[1]
    rows = max(1, CHUNK_NUMBERS // n_latents)
    buffer = torch.empty(min(rows, len(x)), n_latents, dtype=x.dtype)
    parts: list[Codes] = []
    for some in x.split(rows):
        pre = torch.addmm(b_enc, some, w_enc, out=buffer[: len(some)]).numpy()
        if k is not None:
            found = kernels.empty_codes(len(pre), min(k, n_latents), pre.dtype)
            run(kernels.top_k, len(pre), pre, pre.dtype.type(lowest), *found)
        else:
            assert thresholds is not None
            bounds = array(thresholds.clamp(min=0).contiguous())
            counts = kernels.empty_codes(len(pre), 0, pre.dtype)[2]
            run(kernels.count_above, len(pre), pre, bounds, counts)
            indices, values, _ = kernels.empty_codes(len(pre), int(counts.max(initial=0)), pre.dtype)
            run(kernels.take_above, len(pre), pre, bounds, indices, values)
            found = (indices, values, counts)
        parts.append(Codes(*map(torch.from_numpy, found)))
    width = max((part.indices.shape[1] for part in parts), default=0)
    return Codes(
        torch.cat([F.pad(part.indices, (0, width - part.indices.shape[1])) for part in parts]),
        torch.cat([F.pad(part.values, (0, width - part.values.shape[1])) for part in parts]),
        torch.cat([part.counts for part in parts]),
    )


def decode(codes: Codes, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]) -> Tensor:
    """Sum every row's active latents, each times its row of ``w_dec``, and ``b_dec``."""
    out = b_dec.detach().repeat(len(codes.counts), 1)  # rows of its own, even where there is one only
    return _add_rows(codes.indices, codes.values, codes.counts, w_dec, out)


class SparseMap(torch.autograd.Function):
    """``decode(x @ w_enc + b_enc)`` over the latents of codes, with a gradient that touches these only.

    The latents are given (see :func:`find_codes`) and count as constant, as for any top-k activation. When training,
    slots are ``offered``: codes then hold latents that are not above zero too. These write nothing, but the gradient
    moves them where it would raise them. Without that, latents that fall below zero stay there, and rows are left with
    far fewer than they may have.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, w_enc: Tensor, _b_enc: Tensor, w_dec: Tensor, b_dec: Tensor, codes: Codes, offered: bool = False
    ) -> Tensor:
        values = codes.values.clamp(min=0) if offered else codes.values
        ctx.offered = offered
        ctx.save_for_backward(x, w_enc, w_dec, codes.indices, values, codes.counts)
        return decode(Codes(codes.indices, values, codes.counts), w_dec, b_dec)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, w_enc, w_dec, indices, values, counts = ctx.saved_tensors
        grad = grads[0].contiguous()
        x = x.contiguous()
        latent_grad = _dots(indices, counts, w_dec, grad)  # [row, slot]
        if ctx.offered:
            latent_grad *= (values > 0) | (latent_grad < 0)
        order = _order(indices, counts, w_enc.shape[1])
        d_x = d_w_enc = d_b_enc = d_w_dec = d_b_dec = None
        if ctx.needs_input_grad[0]:
            d_x = _add_rows(indices, latent_grad, counts, _rows(w_enc), torch.zeros_like(x))
        if ctx.needs_input_grad[1]:
            d_w_enc = _scatter(indices, latent_grad, x, w_enc.shape[1], order).T
        if ctx.needs_input_grad[2]:
            d_b_enc = _tally(indices, latent_grad, counts, w_enc.shape[1])
        if ctx.needs_input_grad[3]:
            d_w_dec = _scatter(indices, values, grad, w_enc.shape[1], order)
        if ctx.needs_input_grad[4]:
            d_b_dec = grad.sum(0)
        return d_x, d_w_enc, d_b_enc, d_w_dec, d_b_dec, None, None


def _rows(w_enc: Tensor) -> Tensor:
    """Lay an encoder out latent by latent; free of cost where it is stored so (:func:`by_latent`)."""
    return w_enc.T.contiguous()


def by_latent(w_enc: Float[Tensor, "d_in latent"]) -> Float[Tensor, "d_in latent"]:
    """Store an encoder so that the numbers of one latent lie together; its shape stays [d_in, latent]."""
    return w_enc.T.contiguous().T


def _add_rows(indices: Tensor, values: Tensor, counts: Tensor, w: Tensor, out: Tensor) -> Tensor:
    if out.device.type == "cpu":
        arrays = (array(t) for t in (indices, values, counts, w.contiguous(), out))
        run(kernels.decode, len(out), *arrays)
        return out
    return out + torch.einsum("rs,rsd->rd", values, w[indices.long()])


def _dots(indices: Tensor, counts: Tensor, w: Tensor, x: Tensor, b: Tensor | None = None) -> Tensor:
    """Compute ``x . w + b`` of every row and its active latents, [row, slot]; 0 in unused slots."""
    b = w.new_zeros(len(w)) if b is None else b
    if x.device.type == "cpu":
        out = x.new_zeros(indices.shape)
        arrays = (array(t) for t in (indices, counts, w.contiguous(), b.contiguous(), x, out))
        run(kernels.dots, len(x), *arrays)
        return out
    used = torch.arange(indices.shape[1], device=x.device) < counts[:, None]
    return (torch.einsum("rsd,rd->rs", w[indices.long()], x) + b[indices.long()]) * used


_Order = tuple[Tensor, Tensor] | None
"""The used slots of codes listed latent by latent (see :func:`kernels.sort_by_latent`): where those of each latent
begin, and the slots. ``None`` but on the CPU."""


def _scatter(indices: Tensor, values: Tensor, x: Tensor, n_latents: int, order: _Order) -> Tensor:
    """Add ``values * x`` of every row to the rows of its active latents, [latent, d]."""
    out = x.new_zeros(n_latents, x.shape[1])
    if order is not None:
        starts, *arrays = (array(t) for t in (*order, values, x, out))
        run(kernels.scatter, n_latents, starts, *arrays, work=starts)
        return out
    added = (values[:, :, None] * x[:, None, :]).flatten(0, 1)
    return out.index_add_(0, indices.flatten().long(), added)


def _order(indices: Tensor, counts: Tensor, n_latents: int) -> _Order:
    if indices.device.type != "cpu":
        return None
    order = torch.empty(n_latents + 1, dtype=torch.int64), torch.empty(int(counts.sum()), dtype=torch.int32)
    kernels.sort_by_latent(*map(array, (indices, counts, *order)))
    return order


def _tally(indices: Tensor, values: Tensor, counts: Tensor, n_latents: int) -> Tensor:
    out = values.new_zeros(n_latents)
    if values.device.type == "cpu":
        kernels.tally(*(array(t) for t in (indices, values, counts, out)))
        return out
    return out.index_add_(0, indices.flatten().long(), values.flatten())


def batch_top_codes(codes: Codes, n_active: int) -> tuple[Codes, float]:
    """Keep the largest values of a batch wherever they stand, and say from which value on they are kept.

    Args:
        codes: the largest of each row, with more slots than are wanted on average.
        n_active: values to keep in the whole batch.
    """
    flat = codes.values.flatten()
    n_active = min(n_active, int((flat > 0).sum()))
    if not n_active:
        return Codes(codes.indices, torch.zeros_like(codes.values), torch.zeros_like(codes.counts)), 0.0
    bound = float(flat.kthvalue(len(flat) - n_active + 1).values)
    values, order = codes.values.sort(dim=1, descending=True)
    kept = values >= bound
    counts = kept.sum(1)
    width = int(counts.max())
    indices, values = (codes.indices.gather(1, order) * kept)[:, :width], (values * kept)[:, :width]
    return Codes(indices.contiguous(), values.contiguous(), counts.int()), bound


class JumpMap(torch.autograd.Function):
    """:class:`SparseMap` whose thresholds train too, with the number of active latents per row as a second answer.

    The derivative of a step by its threshold is that of a rectangle of width ``bandwidth`` around it (Rajamanoharan et
    al. 2024): only latents whose pre-activation lies so close to their threshold move it.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, b_dec: Tensor, threshold: Tensor, bandwidth: float
    ) -> tuple[Tensor, Tensor]:
        near = find_codes(x, w_enc, b_enc, None, (threshold - bandwidth / 2).clamp(min=0))
        bounds = threshold.detach()[near.indices.long()]
        used = torch.arange(near.indices.shape[1], device=x.device) < near.counts[:, None]
        active = used & (near.values > bounds)
        values = near.values * active
        ctx.save_for_backward(x, w_enc, w_dec, near.indices, near.values, near.counts, bounds)
        ctx.bandwidth = bandwidth
        out = decode(Codes(near.indices, values, near.counts), w_dec, b_dec)
        return out, active.sum().to(out.dtype) / max(1, len(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, w_enc, w_dec, indices, pre, counts, bounds = ctx.saved_tensors
        grad, n_latents, x = grads[0].contiguous(), w_enc.shape[1], x.contiguous()
        used = torch.arange(indices.shape[1], device=x.device) < counts[:, None]
        active = used & (pre > bounds)
        close = used & ((pre - bounds).abs() < ctx.bandwidth / 2)
        value_grad = _dots(indices, counts, w_dec, grad)  # [row, slot]
        pre_grad = value_grad * active
        step_grad = value_grad * bounds + grads[1] / max(1, len(x))
        bound_grad = -(step_grad * close) / ctx.bandwidth
        order = _order(indices, counts, n_latents)
        return (
            _add_rows(indices, pre_grad, counts, _rows(w_enc), torch.zeros_like(x)),
            _scatter(indices, pre_grad, x, n_latents, order).T,
            _tally(indices, pre_grad, counts, n_latents),
            _scatter(indices, pre * active, grad, n_latents, order),
            grad.sum(0),
            _tally(indices, bound_grad, counts, n_latents),
            None,
        )
