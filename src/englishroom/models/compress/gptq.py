"""Error-compensated rounding of one matrix (GPTQ; Frantar et al. 2022, arXiv 2210.17323).

Rounding one input's weights changes the outputs; the weights of the inputs not yet rounded can make up for part of it.

1. ``H = XᵀX`` over calibration inputs X says how the squared error of the outputs grows with errors of the weights.
2. Damp H by a share of its mean diagonal, and take U, upper triangular, with ``UᵀU = H⁻¹`` (Cholesky).
3. Round the rows of W one input after the other, those with the largest activations first. Each row's error, divided
   by ``U[i, i]``, is taken from the rows after it in the proportions ``U[i, i+1:]``.
4. Fit the scales to the codes found, by least squares on the outputs, and round once more from the beginning.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float16, Float64, UInt8
from torch import Tensor

from englishroom.models.compress.grid import dequantised, fitted_scales, rounded_steps
from englishroom.models.compress.half import LARGEST

DAMPING = 0.01


def compensated(
    weight: Float[Tensor, "n_in n_out"], inputs: Float[Tensor, "position n_in"], n_levels: int
) -> tuple[UInt8[Tensor, "n_in n_out"], Float16[Tensor, " n_out"]]:
    """Round a matrix that is applied as ``x @ W`` so that its outputs on ``inputs`` change little.

    Returns:
        The codes, and the scales of the output channels.
    """
    weight = weight.float()
    products = inputs.T.double() @ inputs.double()  # [n_in, n_in]
    scales = fitted_scales(weight, n_levels)
    codes = _rounded(weight, products, scales, n_levels)
    scales = _refitted(weight, products, codes, scales, n_levels)
    return _rounded(weight, products, scales, n_levels), scales


def _rounded(weight: Tensor, products: Float64[Tensor, "n_in n_in"], scales: Tensor, n_levels: int) -> Tensor:
    order = products.diagonal().argsort(descending=True, stable=True)
    root = _inverse_root(products[order][:, order]).float()
    left = weight[order]  # a copy: what is still to be rounded, errors made up for
    single, steps = scales.float(), torch.empty_like(left)
    for i in range(len(left)):
        steps[i] = rounded_steps(left[i], single, n_levels)
        error = (left[i] - steps[i] * single) / root[i, i]
        left[i + 1 :] -= root[i, i + 1 :, None] * error
    return (steps + (n_levels - 1) / 2).to(torch.uint8)[order.argsort()]


def _inverse_root(products: Float64[Tensor, "n_in n_in"]) -> Float64[Tensor, "n_in n_in"]:
    """Return the upper triangular U with ``UᵀU`` the inverse of the damped products."""
    mean = float(products.diagonal().mean()) or 1.0  # inputs that are all 0 ask for plain rounding
    damped = products + DAMPING * mean * torch.eye(len(products), dtype=products.dtype)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)


def _refitted(weight: Tensor, products: Tensor, codes: Tensor, scales: Tensor, n_levels: int) -> Tensor:
    """Return the scale of each channel that brings its outputs closest to the weight's own."""
    steps = dequantised(codes, torch.ones_like(scales), n_levels).double()
    weighed = products @ steps
    fit = (weighed * weight).sum(dim=0) / (weighed * steps).sum(dim=0)
    stored = fit.clamp(max=LARGEST).half()
    return torch.where((stored > 0) & stored.isfinite(), stored, scales)
