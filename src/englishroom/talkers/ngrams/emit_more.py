"""Write infini-gram and skip-trigram talkers as folders, as ``emit`` does with n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

import englishroom
from englishroom.disk import write_folder
from englishroom.emit import tables as table_text
from englishroom.errors import ConfigError
from englishroom.names import PROGRAM, TABLES
from englishroom.store import sha256
from englishroom.talkers.ngrams import attending, matching, mixing
from englishroom.talkers.ngrams.emit import READ, ngram_definitions, spell_program
from englishroom.talkers.ngrams.infini import InfiniTalker
from englishroom.talkers.ngrams.model_file import ngrams_to_bytes
from englishroom.talkers.ngrams.skip import SkipTalker
from englishroom.talkers.ngrams.talker import NgramTalker

INFINI_STEP = f"""{READ.format(memory="the story so far")}\
    chances = UNIGRAMS
    for length in range(1, min(len(memory), len(NGRAMS) - 1) + 1):
        place = find(NGRAMS, memory[-length:])
        if place is None:
            break
        chances = mix(chances, NGRAMS[length], place)
    length, low, high = longest(TOKENS, PLACES, memory)
    if length >= SHORTEST:
        by_count = WEIGHTS[min(length - SHORTEST, len(WEIGHTS) - 1)]
        weight = by_count[min((high - low).bit_length(), len(by_count)) - 1]
        chances = mix_matches(chances, TOKENS, PLACES, low, high, weight, LIMIT)
    return list(map(math.log, chances))
"""
MODULES = (mixing, matching, attending)
SKIP_STEP = f"""{READ.format(memory="the last tokens of the story")}\
    del memory[: max(0, len(memory) - WINDOW - 1)]
    chances = mix(UNIGRAMS, NGRAMS[1], token)
    return list(map(math.log, attend(chances, SKIPS, memory)))
"""


def emit_infini(talker: InfiniTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: the base is no n-gram talker, or there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    base = talker.base
    if not isinstance(base, NgramTalker):
        raise ConfigError(f"{talker.name}: only what builds on n-grams can be written as a program; fit it on n-grams")
    header = [
        "To read it, begin at step(): it takes one token and says how likely every next token is. It asks the n-grams",
        "(NGRAMS) first, then looks for the longest ending of the story that occurs anywhere in the text (TOKENS),",
        "and asks what came after it there. PLACES are all places of the text, sorted by what stands before them.",
        "WEIGHTS says how far the text is trusted: by length of the match, from SHORTEST on, and by how often it",
        "occurred (once, 2-3 times, 4-7 times ...).",
    ]
    definitions = [
        *ngram_definitions(base),
        'TOKENS = rows("text")',
        'PLACES = rows("places")',
        f"SHORTEST = {talker.shortest}",
        f"LIMIT = {talker.limit}",
        "WEIGHTS = (",
        *(f"    {tuple(weights)}," for weights in talker.weights.tolist()),
        ")",
    ]
    own = {"text": talker.array.tokens.astype(np.int32), "places": talker.array.places}
    calls = ("find", "mix", "longest", "mix_matches", "rows")
    _write(talker, base, out, header, INFINI_STEP, calls, definitions, own)


def emit_skip(talker: SkipTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    header = [
        "To read it, begin at step(): it takes one token and says how likely every next token is. It asks the bigrams",
        "(NGRAMS) first, then looks up every token of the last WINDOW together with the newest one. Each pair that the",
        "tables (SKIPS) have says what came after it more often than after the newest token alone, and how often. A",
        "score says how much the pair counts, by its kind: scores grow with what it tells that the bigrams do not.",
    ]
    own: dict[str, NDArray[np.generic]] = {}
    lines = []
    for i, (table, scores) in enumerate(zip(talker.tables, talker.scores, strict=True)):
        parts = ("pairs", "starts", "tokens", "counts", "totals", "kinds")
        own |= {f"skip_{part}_{i}": getattr(table, part) for part in parts}
        own[f"skip_kinds_{i}"] = table.kinds.astype(np.int32)
        named = [f'rows("skip_{part}_{i}")' for part in parts]
        lines += [f"    ({table.nearest}, {table.farthest}, {', '.join(named[:3])},", f"     {', '.join(named[3:])},"]
        lines += [f"     {table.discount}, {table_text.text_block('float', scores.tolist())}),"]
    definitions = [*ngram_definitions(talker.bigrams), f"WINDOW = {talker.window}", "SKIPS = (", *lines, ")"]
    calls = ("mix", "attend", "rows", "numbers")
    _write(talker, talker.bigrams, out, header, SKIP_STEP, calls, definitions, own)


def _write(
    talker: InfiniTalker | SkipTalker,
    base: NgramTalker,
    out: Path,
    header: Sequence[str],
    step: str,
    calls: Sequence[str],
    definitions: Sequence[str],
    own: dict[str, NDArray[np.generic]],
) -> None:
    arrays = safetensors.numpy.load(ngrams_to_bytes(base)) | own
    tables = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    head = [
        f"A program that talks: {talker.name}, counted on a text.",
        "",
        f"Written by englishroom {englishroom.__version__}. It needs nothing but Python 3.11 or later.",
        f"sha256 of the text: {talker.text_sha256 or 'not known'}.",
        "",
        *header,
    ]
    program = spell_program(
        head, step, calls, MODULES, "\n".join(definitions), talker.tokenizer, talker.n_ctx, sha256(tables)
    )
    write_folder(out, {PROGRAM: program.encode(), TABLES: tables})
