"""A fitted n-gram talker as one safetensors file, and back.

Everything that is no array stands as one JSON text in the file's metadata (of several entries, safetensors would write
the order by chance). The arrays are int32, which the loader of emitted programs reads too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
from numpy.typing import DTypeLike, NDArray
from pydantic import ConfigDict, TypeAdapter, with_config
from safetensors import SafetensorError, safe_open

from englishroom.disk import replace_file
from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer_json import tokenizer_from_json, tokenizer_to_json
from englishroom.talkers.ngrams.kneser_ney import Discounts, KneserNey, SmoothedOrder
from englishroom.talkers.ngrams.talker import NgramTalker
from englishroom.untrusted import ARRAY_BYTES, parse_arrays, parse_json, read_bytes, require_file

MARKS = "fit_marks"
ADVICE = "fit the n-grams again"


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class _Description:
    """What the file says beside its arrays."""

    format: Literal["englishroom n-grams 1"]
    order: int
    d_vocab: int
    start_id: int
    discounts: list[Discounts]
    text_sha256: str
    tokenizer: str


def ngrams_to_bytes(talker: NgramTalker) -> bytes:
    """Lay a talker out as a safetensors file, the same bytes for the same talker."""
    model = talker.model
    arrays: dict[str, NDArray[np.generic]] = {MARKS: talker.fit_marks.view(np.int64)}
    for length, level in enumerate(model.levels, 1):
        arrays[f"counts_{length}"] = level.counts
        if length > 1:
            arrays |= {f"starts_{length}": level.starts, f"tokens_{length}": level.tokens.astype(np.int32)}
    description = _Description(
        format="englishroom n-grams 1",
        order=model.order,
        d_vocab=model.d_vocab,
        start_id=model.start_id,
        discounts=[level.discounts for level in model.levels],
        text_sha256=talker.text_sha256,
        tokenizer=tokenizer_to_json(talker.tokenizer),
    )
    return safetensors.numpy.save(arrays, metadata={"englishroom": json.dumps(asdict(description))})


def save_ngrams(talker: NgramTalker, path: Path) -> None:
    """Write a fitted talker to one file, whole or not at all.

    Raises:
        ArtifactError: the place cannot be written to.
    """
    replace_file(path, ngrams_to_bytes(talker))


def load_ngrams(path: Path, dtype: DTypeLike = np.float32) -> NgramTalker:
    """Read what :func:`save_ngrams` wrote, or the tables of an emitted n-gram program.

    Raises:
        ArtifactError: the file is missing, of another kind, or damaged.
    """
    description, arrays = _read(path)
    tokenizer = tokenizer_from_json(description.tokenizer, f"{path}: tokenizer")
    for fault in _faults(description, arrays, len(tokenizer.pieces), tokenizer.start_id):
        raise ArtifactError(f"{path}: {fault}; fit the n-grams again")
    d_vocab = description.d_vocab
    starts, tokens = np.array([0, d_vocab], np.int32), np.arange(d_vocab)
    levels: list[SmoothedOrder] = []
    for length, discounts in enumerate(description.discounts, 1):
        if length > 1:
            starts, tokens = arrays[f"starts_{length}"], arrays[f"tokens_{length}"]
        levels.append(SmoothedOrder(starts, tokens.astype(np.uint16), arrays[f"counts_{length}"], discounts))
    model = KneserNey(d_vocab, description.start_id, tuple(levels))
    return NgramTalker(model, tokenizer, description.text_sha256, arrays[MARKS].view(np.uint64), dtype)


def _read(path: Path) -> tuple[_Description, dict[str, NDArray]]:
    require_file(path, ADVICE)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("englishroom", "")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read as safetensors ({error}); {ADVICE}") from None
    if not text:
        raise ArtifactError(f"{path}: not a file of n-grams (it has no such metadata); fit n-grams to make one")
    description = parse_json(text, TypeAdapter(_Description), f"{path}: metadata", ADVICE)
    return description, parse_arrays(read_bytes(path, ADVICE, ARRAY_BYTES), path, ADVICE)


def _faults(description: _Description, arrays: Mapping[str, NDArray], n_pieces: int, start_id: int) -> Iterator[str]:
    """Yield what does not fit together; each check may rely on those before it."""
    order, d_vocab = description.order, description.d_vocab
    if (d_vocab, description.start_id) != (n_pieces, start_id) or not 1 <= d_vocab <= 2**16:
        yield f"d_vocab is {d_vocab} and start_id {description.start_id}, its tokenizer has {n_pieces} and {start_id}"
    if len(description.discounts) != order or order < 1:
        yield f"order is {order}, found discounts of {len(description.discounts)} lengths"
    for length, discounts in enumerate(description.discounts, 1):
        if not all(0 < each <= count for count, each in enumerate(discounts, 1)):
            yield f"discounts of length {length} are {discounts}, expected each above 0 and at most its count"
    wanted = {MARKS: np.int64, "counts_1": np.int32}
    for length in range(2, order + 1):
        wanted |= {f"{part}_{length}": np.int32 for part in ("starts", "tokens", "counts")}
    found = {name: (array.dtype, array.ndim) for name, array in arrays.items()}
    if found != {name: (np.dtype(dtype), 1) for name, dtype in wanted.items()}:
        yield f"found the arrays {sorted(found)}, expected {sorted(wanted)}, all int32 in one row but the marks"
    n_shorter = len(arrays["counts_1"])
    if n_shorter != d_vocab or int(arrays["counts_1"].min()) < 0 or not arrays["counts_1"].any():
        yield f"counts_1 has {n_shorter} numbers, expected {d_vocab}, none negative, not all 0"
    for length in range(2, order + 1):
        starts, tokens, counts = (arrays[f"{part}_{length}"] for part in ("starts", "tokens", "counts"))
        if len(starts) != n_shorter + 1 or starts[0] != 0 or starts[-1] != len(tokens) or (np.diff(starts) < 0).any():
            yield f"starts_{length} does not cut {len(tokens)} n-grams into {n_shorter} slices"
        rising = np.diff(tokens) > 0
        rising[starts[(starts > 0) & (starts < len(tokens))] - 1] = True  # from one slice to the next it may fall
        if len(tokens) and not (rising.all() and tokens.min() >= 0 and tokens.max() < d_vocab):
            yield f"tokens_{length} are not in order, or outside the vocabulary of {d_vocab}"
        if len(counts) != len(tokens) or (counts < 1).any():
            yield f"counts_{length} has {len(counts)} numbers, expected {len(tokens)}, all of 1 or more"
        n_shorter = len(tokens)
