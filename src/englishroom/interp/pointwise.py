"""What the fast interpreter does to rows of numbers: functions, weights, the largest of each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from englishroom.ir.program import Function

Rows = NDArray[Any]
"""Values of a variable, one row for each (text, position) of the batch: [batch * pos, size]."""
ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)


def kept(x: Rows, admitted: NDArray[np.bool_] | bool, k: int | None) -> Rows:
    """Zero what is not admitted, and of the rest, row by row, all but the k largest (ties to the lower index)."""
    return np.where(strongest(x, admitted, k), x, x.dtype.type(0))


def strongest(x: Rows, admitted: NDArray[np.bool_] | bool, k: int | None) -> NDArray[np.bool_] | bool:
    """Mark what is admitted, and of it, row by row, none but the k largest (ties to the lower index)."""
    if k is None:
        return admitted
    best = np.argsort(np.where(admitted, -x, x.dtype.type(np.inf)), axis=1, kind="stable")[:, :k]
    found = np.zeros(x.shape, bool)
    np.put_along_axis(found, best, True, axis=1)
    return found & admitted


def softmax(scores: Rows) -> Rows:
    """Turn scores into weights that sum to 1 along the last axis."""
    weights = scores - np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= np.add.reduce(weights, axis=-1, keepdims=True)
    return weights


def through_softmax(weights: Rows, gradient: Rows) -> Rows:
    """Turn the gradient on weights that :func:`softmax` made into that on their scores."""
    return weights * (gradient - (weights * gradient).sum(1, keepdims=True))


def log_softmax(logits: Rows) -> Rows:
    """Turn logits into natural-log probabilities along the last axis."""
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=-1, keepdims=True))
    return shifted


def function_of(name: Function) -> Callable[[Rows], Rows]:
    """Return the pointwise function of a name."""
    match name:
        case "gelu_new":
            return lambda x: 0.5 * x * (1.0 + np.tanh(ROOT_2_OVER_PI * (x + 0.044715 * (x * x * x))))
        case "gelu":
            root = math.sqrt(2.0)
            return lambda x: 0.5 * x * (1.0 + erf(x / root))
        case "relu":
            return lambda x: np.maximum(x, 0.0)
        case "silu":
            return lambda x: x * (0.5 * (1.0 + np.tanh(0.5 * x)))
