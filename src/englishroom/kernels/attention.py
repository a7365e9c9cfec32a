"""Causal attention for small heads on the CPU, compiled by numba.

torch's fused kernel is made for heads of 64 and more; those of TinyStories models have 8 or 16, and a product with so
short an inner side is slow in any library of matrix products. Here a query's scores with all keys up to its own lie
side by side, and every step runs along them.

Both loops work on one head of one row of text at a time, so answers do not depend on the number of threads. The
backward loop forms the pattern again from the logarithm of each query's sum (Dao et al. 2022, FlashAttention).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.kernels.compiling import compiled
from englishroom.kernels.threads import array, run

LARGEST_HEAD = 32
"""Size of head up to which this is faster than torch."""
LOG2_E = np.float32(math.log2(math.e))
LARGEST_POWER = np.float32(126.0)
"""Powers of two beyond this are cut off."""
SAFE = np.float32(1e18)
"""A sum of powers within this factor of 1 has lost nothing by the number taken off its exponents."""
C1, C2, C3 = np.float32(0.6931470444369116), np.float32(0.24022930562157757), np.float32(0.05548528035724057)
C4, C5, C6 = np.float32(0.009675452014834551), np.float32(0.0012467842868217238), np.float32(0.00021612925788520643)
"""1 + C1 f + ... + C6 f**6 is 2**f for f in [0, 1], off by less than 2.1e-9 of it (least squares)."""
FAST = {"contract", "reassoc", "nnan", "nsz", "arcp"}


@compiled(fastmath=FAST)
def _scores(x, rows, out):  # pragma: no cover (compiled)
    """Write ``sum_c x[c] * rows[c]`` to ``out``; four coordinates a pass."""
    n = len(out)
    out[:] = 0
    for c in range(0, len(x), 4):
        x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
        r0, r1, r2, r3 = rows[c], rows[c + 1], rows[c + 2], rows[c + 3]
        for j in range(n):
            out[j] += (x0 * r0[j] + x1 * r1[j]) + (x2 * r2[j] + x3 * r3[j])


@compiled(fastmath=FAST)
def _sums(p, rows, out):  # pragma: no cover (compiled)
    """Write ``sum_j p[j] * rows[c, j]`` to ``out[c]``; four coordinates a pass."""
    n = len(p)
    zero = p.dtype.type(0)
    for c in range(0, len(out), 4):
        r0, r1, r2, r3 = rows[c], rows[c + 1], rows[c + 2], rows[c + 3]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for j in range(n):
            s0 += p[j] * r0[j]
            s1 += p[j] * r1[j]
            s2 += p[j] * r2[j]
            s3 += p[j] * r3[j]
        out[c], out[c + 1], out[c + 2], out[c + 3] = s0, s1, s2, s3


@compiled(fastmath=FAST)
def _add_outer(x, p, rows):  # pragma: no cover (compiled)
    """Add ``x[c] * p[j]`` to ``rows[c, j]``, two coordinates a pass."""
    n = len(p)
    for c in range(0, len(x), 2):
        x0, x1 = x[c], x[c + 1]
        r0, r1 = rows[c], rows[c + 1]
        for j in range(n):
            r0[j] += x0 * p[j]
            r1[j] += x1 * p[j]


@compiled(fastmath=FAST)
def _powers(x, off, out, bits, scale):  # pragma: no cover (compiled)
    """Write ``2 ** (x - off)`` to ``out`` and return the sum.

    ``bits`` and ``scale`` are one piece of memory, as whole numbers and as floats: a float's exponent is written there.
    """
    total = out.dtype.type(0)
    for j in range(len(x)):
        y = min(max(x[j] - off, -LARGEST_POWER), LARGEST_POWER)
        whole = np.floor(y)
        f = y - whole
        bits[j] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        out[j] = np.float32(1) + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
    for j in range(len(x)):
        out[j] *= scale[j]
        total += out[j]
    return total


@compiled()
def mix(low, high, q, k, v, out, ends):  # pragma: no cover (compiled)
    """Mix the values of every position up to each.

    Args:
        q, k, v: [item, pos, d]; queries times the scale and the logarithm of e to base 2.
        out: filled, [item, pos, d].
        ends: logarithms to base 2 of each query's sum of powers, filled, [item, pos].
    """
    n_pos, d = q.shape[1], q.shape[2]
    k_rows, v_rows = np.empty((d, n_pos), q.dtype), np.empty((d, n_pos), q.dtype)
    scores, pattern = np.empty(n_pos, q.dtype), np.empty(n_pos, q.dtype)
    bits = np.empty(n_pos, np.int32)
    scale = bits.view(np.float32)
    for item in range(low, high):
        k_rows[:] = k[item].T
        v_rows[:] = v[item].T
        for i in range(n_pos):
            n = i + 1
            _scores(q[item, i], k_rows, scores[:n])
            off = ends[item, i - 1] if i else scores[0]  # sums of neighbours are of one size, nearly always
            total = _powers(scores[:n], off, pattern[:n], bits, scale)
            if not 1 / SAFE < total < SAFE:
                off = scores[:n].max()
                total = _powers(scores[:n], off, pattern[:n], bits, scale)
            _sums(pattern[:n], v_rows, out[item, i])
            out[item, i] /= total
            ends[item, i] = off + np.log2(total)


@compiled()
def unmix(low, high, q, k, v, out, ends, grad, d_q, d_k, d_v):  # pragma: no cover (compiled)
    """Compute the gradients of :func:`mix`, by the scaled queries, the keys and the values, all [item, pos, d]."""
    n_pos, d = q.shape[1], q.shape[2]
    k_rows, v_rows = np.empty((d, n_pos), q.dtype), np.empty((d, n_pos), q.dtype)
    dk_rows, dv_rows = np.empty((d, n_pos), q.dtype), np.empty((d, n_pos), q.dtype)
    scores, pattern, change = np.empty(n_pos, q.dtype), np.empty(n_pos, q.dtype), np.empty(n_pos, q.dtype)
    bits = np.empty(n_pos, np.int32)
    scale = bits.view(np.float32)
    natural = np.float32(1) / LOG2_E  # of the derivative of 2**x
    for item in range(low, high):
        k_rows[:] = k[item].T
        v_rows[:] = v[item].T
        dk_rows[:] = 0
        dv_rows[:] = 0
        for i in range(n_pos):
            n = i + 1
            own = q.dtype.type(0)
            for c in range(d):
                own += grad[item, i, c] * out[item, i, c]
            _scores(q[item, i], k_rows, scores[:n])
            _powers(scores[:n], ends[item, i], pattern[:n], bits, scale)
            _scores(grad[item, i], v_rows, change[:n])
            for j in range(n):
                change[j] = pattern[j] * (change[j] - own) * natural
            _sums(change[:n], k_rows, d_q[item, i])
            _add_outer(q[item, i], change[:n], dk_rows)
            _add_outer(grad[item, i], pattern[:n], dv_rows)
        d_k[item] = dk_rows.T
        d_v[item] = dv_rows.T


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, ends = torch.empty_like(q), q.new_empty(q.shape[:2])
        run(mix, len(q), *map(array, (q, k, v, out, ends)))
        ctx.save_for_backward(q, k, v, out, ends)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, ends = ctx.saved_tensors
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        run(unmix, len(q), *map(array, (q, k, v, out, ends, grads[0].contiguous(), d_q, d_k, d_v)))
        return d_q, d_k, d_v


def suits(q: Tensor, visible: Tensor | None) -> bool:
    """Say whether attention is of the kind that :func:`attend_small` is made for."""
    return (
        visible is None
        and q.shape[2] > 1
        and q.shape[3] <= LARGEST_HEAD
        and q.shape[3] % 4 == 0
        and q.dtype == torch.float32
        and q.device.type == "cpu"
    )


def attend_small(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch kv_head pos d_head"],
    v: Float[Tensor, "batch kv_head pos d_head"],
    scale: float,
) -> Float[Tensor, "batch head pos d_head"]:
    """Mix the values of every position up to each query's own, as torch's fused attention does."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    items = [x.flatten(0, 1).contiguous() for x in (q * (scale * float(LOG2_E)), k, v)]
    mixed = _Mix.apply(*items)
    assert isinstance(mixed, Tensor)
    return mixed.view(q.shape)
