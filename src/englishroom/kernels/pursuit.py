"""Orthogonal matching pursuit on covariances, compiled by numba."""

from __future__ import annotations

import numpy as np

from englishroom.kernels.compiling import compiled

FAST = {"contract", "reassoc", "nnan", "nsz"}


@compiled(fastmath=FAST)
def pursue(low, high, covariance, against, candidates, least, chosen, weights, counts):  # pragma: no cover (compiled)
    """Choose, for a range of sums, the features that together explain most of each, and their weights.

    Features are taken one at a time, each time the one that explains most of what is left; what has been chosen is
    kept orthogonal (a Cholesky factor that grows by a row).

    Args:
        covariance: of the features, [feature, feature], with something on its diagonal.
        against: covariance of every sum with every feature, [sum, feature].
        candidates: features that each sum may choose of, [sum, candidate].
        least: variance of a feature, given those chosen, below which it adds nothing, as a share of its own.
        chosen, weights, counts: what is found, [sum, pick], [sum, pick] and [sum].
    """
    n_picks, size = chosen.shape[1], candidates.shape[1]
    nothing = covariance.dtype.type(0)
    together = np.empty((size, size), covariance.dtype)  # of the candidates
    directions = np.empty((n_picks, size), covariance.dtype)
    factor = np.empty((n_picks, n_picks), covariance.dtype)
    left, variance = np.empty(size, covariance.dtype), np.empty(size, covariance.dtype)
    shares = np.empty(n_picks, covariance.dtype)
    for c in range(low, high):
        own = candidates[c]
        for i in range(size):
            row = covariance[own[i]]
            for j in range(size):
                together[i, j] = row[own[j]]
            left[i], variance[i] = against[c, own[i]], together[i, i]
        n = 0
        while n < n_picks:
            best, at = nothing, -1
            for j in range(size):
                if variance[j] > 0 and left[j] * left[j] > best * variance[j]:
                    best, at = left[j] * left[j] / variance[j], j
            if at < 0:
                break
            if variance[at] <= least * together[at, at]:
                variance[at] = nothing
                continue
            root = np.sqrt(variance[at])
            row = directions[n]
            row[:] = together[at]
            for m in range(n):
                factor[n, m] = directions[m, at]
                row -= factor[n, m] * directions[m]
            row /= root
            factor[n, n] = root
            shares[n] = left[at] / root
            left -= shares[n] * row
            variance -= row * row
            variance[at] = nothing
            chosen[c, n] = own[at]
            n += 1
        for m in range(n - 1, -1, -1):
            total = shares[m]
            for later in range(m + 1, n):
                total -= factor[later, m] * weights[c, later]
            weights[c, m] = total / factor[m, m]
        counts[c] = n
