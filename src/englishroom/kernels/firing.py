"""What exceeds its bar, and what bars feel of it, compiled by numba: one pass over all strengths each way.

The bar of feature j at a row is ``sharp * thresholds[j] + (1 - sharp) * cuts[row, g]``, where g is its group; groups
have equal sizes and lie one after the other.
"""

from __future__ import annotations

from englishroom.kernels.compiling import compiled


@compiled()
def keep_above(low, high, strengths, thresholds, cuts, sharp, out):  # pragma: no cover (compiled)
    """Write the strengths that exceed their bars to ``out`` [row, feature], and 0 for the others."""
    size = strengths.shape[1] // cuts.shape[1]
    none = strengths.dtype.type(0)
    for row in range(low, high):
        for group in range(cuts.shape[1]):
            cut = (1 - sharp) * cuts[row, group]
            for j in range(group * size, (group + 1) * size):
                s = strengths[row, j]
                out[row, j] = s if s > sharp * thresholds[j] + cut else none


@compiled()
def gradients(
    low, high, strengths, thresholds, cuts, sharp, width, by_value, by_share, out, by_threshold
):  # pragma: no cover (compiled)
    """Compute the gradients of the strengths, ``out`` [row, feature], and of thresholds, for a range of groups.

    A bar is felt by strengths within half of ``width`` [feature] of it (JumpReLU).

    Args:
        by_value, by_share: gradients of what exceeds its bar, [row, feature], and of how often it does, [feature].
    """
    size = strengths.shape[1] // cuts.shape[1]
    none = strengths.dtype.type(0)
    for group in range(low, high):
        for row in range(strengths.shape[0]):
            cut = (1 - sharp) * cuts[row, group]
            for j in range(group * size, (group + 1) * size):
                s, given = strengths[row, j], by_value[row, j]
                bar = sharp * thresholds[j] + cut
                out[row, j] = given if s > bar else none
                near = abs(s - bar) < width[j] / 2
                by_threshold[j] -= (bar * given + by_share[j]) * sharp / width[j] if near else none
