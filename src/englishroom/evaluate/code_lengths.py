"""Lengths of arrays under one code, in bits.

An array is sent as one of a few forms, and each form is made of streams of symbols; the sender tries all and names the
one that is shortest, a few bits for the name included. The receiver knows the array's shape, and this page.

- natural number: Elias gamma of n + 1.
- stream, symbols of a known alphabet: order-0 adaptive arithmetic code, or (up to 256 symbols) raw Deflate or LZMA2.
- integers: above their minimum, as symbols; or as number of binary digits and the digits below the first; or as bytes,
  a stream for every place; or, where they never fall, as the first and the steps.
- floats: at the smallest of float16, bfloat16, float32 and float64 that holds them all exactly, as bytes, a stream for
  every place; or as a sorted palette and indices into it; or as positions and values of what is not 0.
- positions in a matrix: among all that there are of that number (enumerative code), or row by row the same, or row by
  row the column as a symbol.
"""

from __future__ import annotations

import lzma
import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

PRIORS = (1.0, 1 / 2, 1 / 16, 1 / 256)
"""Counts that every symbol has before the first (1/2 is Krichevsky and Trofimov's); the stream names one of them."""
TAG_BITS = 2
"""For the name of one of up to four choices."""
PALETTE = 65536
"""The most symbols of an alphabet whose size is sent, and of distinct floats in a palette."""
TRIED = 2**22
"""The most symbols on which compressors are tried; longer streams take the adaptive code."""
_DICTIONARY = 2**12, 2**23  # LZMA2 looks back as far as the data reach, within these bounds
_WORTH_TRYING = 1.1  # LZMA is tried where Deflate comes this close to the adaptive code


@dataclass(frozen=True)
class Length:
    """How long an array is, and in which form.

    Attributes:
        form: for readers: ``float16 bytes``, ``12 distinct float16``, ``8.0% of float16 bytes`` ...
    """

    bits: int
    form: str


def natural_bits(number: int) -> int:
    """Return the length of a number from 0 on (Elias gamma)."""
    return 2 * (number + 1).bit_length() - 1


def adaptive_bits(counts: NDArray[np.integer]) -> int:
    """Return the length of a stream under the order-0 adaptive arithmetic code.

    A symbol seen ``c`` times among ``n`` so far is given probability ``(c + a) / (n + a m)``, m the size of the
    alphabet, with the prior ``a`` that is best in hindsight. The product over the stream depends on the final counts
    alone (Dirichlet-multinomial). An arithmetic code needs that many bits, rounded up, and one.

    Args:
        counts: of every symbol of the alphabet, [symbol].
    """
    total, seen, size = int(counts.sum()), counts[counts > 0].astype(np.float64), len(counts)
    nats = min(
        float(gammaln(total + a * size) - gammaln(a * size) - (gammaln(seen + a) - gammaln(a)).sum()) for a in PRIORS
    )
    return TAG_BITS + math.ceil(max(nats, 0.0) / math.log(2) - 1e-6) + 1


def bytes_bits(data: bytes) -> int:
    """Return the length of bytes under the shorter of raw Deflate and raw LZMA2, both of which say where they end."""
    return TAG_BITS + 8 * min(_deflated(data), _lzma(data))


def stream_bits(symbols: NDArray[np.integer], size: int) -> int:
    """Return the length of symbols from 0 to ``size - 1``."""
    flat = symbols.reshape(-1)
    best = adaptive_bits(np.bincount(flat.astype(np.int64, copy=False), minlength=size))
    if size <= 256 and flat.size <= TRIED:
        data = flat.astype(np.uint8).tobytes()
        deflated = 8 * _deflated(data)
        best = min(best, deflated)
        if deflated < _WORTH_TRYING * best:
            best = min(best, 8 * _lzma(data))
    return TAG_BITS + best


def integers(array: NDArray[np.integer]) -> Length:
    """Return the length of whole numbers."""
    flat = array.reshape(-1)
    direct = _spread(flat)
    if flat.size < 2 or not bool((flat[1:] >= flat[:-1]).all()):
        return direct
    first, steps = int(flat[0]), _above(flat[1:], flat[:-1])
    rising = _spread(steps)
    bits = TAG_BITS + 1 + natural_bits(abs(first)) + rising.bits
    return min(direct, Length(bits, f"steps, {rising.form}"), key=lambda length: length.bits)


def _spread(flat: NDArray[np.integer]) -> Length:
    """Return the length of whole numbers in any order."""
    if not flat.size:
        return Length(TAG_BITS, "empty")
    low = flat.min()
    above = _above(flat, low)
    highest = int(above.max())
    head = TAG_BITS + 1 + natural_bits(abs(int(low))) + natural_bits(highest)
    digits = np.searchsorted(2 ** np.arange(64, dtype=np.uint64), above, side="right")
    exact = int(np.maximum(digits.astype(np.int64) - 1, 0).sum())
    forms = [Length(head + stream_bits(digits, 65) + exact, "digits")]
    if highest < PALETTE:
        forms.append(Length(head + stream_bits(above, highest + 1), f"{highest + 1} symbols"))
    if highest >= 256:
        places = above.astype("<u8")[:, None].view(np.uint8)[:, : (highest.bit_length() + 7) // 8]
        forms.append(Length(head + sum(stream_bits(place, 256) for place in places.T), "bytes"))
    return min(forms, key=lambda length: length.bits)


def _above(values: NDArray[np.integer], low: NDArray[np.integer] | np.integer) -> NDArray[np.uint64]:
    """Subtract what is not larger; exact over the whole range of 64-bit integers."""
    return values.astype(np.uint64) - np.asarray(low).astype(np.uint64)


def floats(array: NDArray[np.floating]) -> Length:
    """Return the length of floats; zeros lose their sign."""
    if not array.size:
        return Length(TAG_BITS, "empty")
    patterns, name = exact_patterns(array)
    dense = _patterns(patterns.reshape(-1), name)
    rows = patterns.reshape((len(array), -1) if array.ndim > 1 else (1, -1))
    taken = np.flatnonzero(rows)
    if len(taken) == rows.size:
        return Length(2 * TAG_BITS + dense.bits, dense.form)
    values = _patterns(rows.reshape(-1)[taken], name)
    bits = positions_bits(taken, rows.shape) + values.bits
    sparse = Length(bits, f"{len(taken) / rows.size:.1%} of {values.form}")
    best = min(dense, sparse, key=lambda length: length.bits)
    return Length(2 * TAG_BITS + best.bits, best.form)


def exact_patterns(array: NDArray[np.floating]) -> tuple[NDArray[np.unsignedinteger], str]:
    """Return floats as bit patterns of the smallest format that holds all of them exactly, and its name."""
    array = array + 0.0  # -0 becomes 0
    with np.errstate(over="ignore"):
        if np.array_equal(array.astype(np.float16), array):
            return array.astype(np.float16).view(np.uint16), "float16"
        single = array.astype(np.float32)
    if not np.array_equal(single, array):
        return array.astype(np.float64).view(np.uint64), "float64"
    patterns = single.view(np.uint32)
    if not (patterns & np.uint32(0xFFFF)).any():
        return (patterns >> np.uint32(16)).astype(np.uint16), "bfloat16"
    return patterns, "float32"


def _patterns(patterns: NDArray[np.unsignedinteger], name: str) -> Length:
    """Return the length of bit patterns, [entry]."""
    places = patterns[:, None].view(np.uint8)  # [entry, place]
    dense = Length(TAG_BITS + sum(stream_bits(place, 256) for place in places.T), f"{name} bytes")
    distinct, indices = np.unique(patterns, return_inverse=True)
    if not len(distinct) or len(distinct) > PALETTE:
        return dense
    chosen = stream_bits(indices, len(distinct))
    bits = TAG_BITS + natural_bits(len(distinct)) + integers(distinct).bits + chosen
    return min(dense, Length(bits, f"{len(distinct)} distinct {name}"), key=lambda length: length.bits)


def positions_bits(positions: NDArray[np.integer], shape: tuple[int, int]) -> int:
    """Return the length of a set of places in a matrix, counted along its rows, rising."""
    n_rows, n_columns = shape
    per_row = np.bincount(positions // n_columns, minlength=n_rows)
    whole = natural_bits(len(positions)) + _choices_bits(n_rows * n_columns, np.array([len(positions)]))
    by_row = _choices_bits(n_columns, per_row)
    as_symbols = stream_bits(positions % n_columns, n_columns)
    return TAG_BITS + min(whole, integers(per_row).bits + min(by_row, as_symbols))


def _choices_bits(size: int, chosen: NDArray[np.integer]) -> int:
    """Return the length of subsets of a set, given how many members each has: log2 of how many there are."""
    k = chosen.astype(np.float64)
    nats = float((gammaln(size + 1.0) - gammaln(k + 1) - gammaln(size - k + 1)).sum())
    return math.ceil(max(nats, 0.0) / math.log(2) - 1e-6)


def _deflated(data: bytes) -> int:
    coder = zlib.compressobj(6, zlib.DEFLATED, -15)
    return len(coder.compress(data)) + len(coder.flush())


def _lzma(data: bytes) -> int:
    shortest, longest = _DICTIONARY
    reach = min(max(len(data), shortest), longest)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": reach}]
    return len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters))
