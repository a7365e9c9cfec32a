"""Divergence of next-token distributions, formed a chunk of rows at a time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK_NUMBERS = 2**18
"""Logits held at once, of each of the two sides (1 MB), so that they stay in cache."""


def kl_nats(
    target: Float[Tensor, "row d_vocab"], program: Float[Tensor, "row d_vocab"]
) -> tuple[Float[Tensor, " row"], Tensor, Tensor]:
    """Compute KL(target‖program) of every row from logits, and the log-probabilities of both."""
    p, q = target.log_softmax(-1), program.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1), p, q


class LinearKL(torch.autograd.Function):
    """Mean KL(target‖program) in nats per row, of the logits ``x_target @ w_target`` and ``x @ w``.

    The gradient is formed with the loss, so the logits of a chunk are never needed twice; the target gets none. Where
    ``half``, products are formed in bfloat16, but for the target's logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "row d_model"],
        w: Float[Tensor, "d_model d_vocab"],
        x_target: Float[Tensor, "row d_model"],
        w_target: Float[Tensor, "d_model d_vocab"],
        half: bool = False,
    ) -> Tensor:
        n_rows, size = len(x), max(1, CHUNK_NUMBERS // w.shape[1])
        grad_x = torch.empty_like(x)
        grad_w = torch.zeros_like(w) if ctx.needs_input_grad[1] else None
        given, table = (x.bfloat16(), w.bfloat16()) if half else (x, w)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for start in range(0, n_rows, size):
            part = slice(start, start + size)
            kl, p, q = kl_nats(x_target[part] @ w_target, (given[part] @ table).to(x.dtype))
            total += kl.sum(dtype=torch.float64)
            gradient = q.exp_().sub_(p.exp_()).div_(n_rows)  # [chunk, d_vocab]
            gradient = gradient.bfloat16() if half else gradient
            grad_x[part] = gradient @ table.T
            if grad_w is not None:
                grad_w += given[part].T @ gradient
        ctx.save_for_backward(grad_x, grad_w)
        return (total / n_rows).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        grad_x, grad_w = ctx.saved_tensors
        return grad_x * grads[0], None if grad_w is None else grad_w * grads[0], None, None, None
