"""Write talkers that count as folders: a Python program that imports only the standard library, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from englishroom.disk import write_folder
from englishroom.emit import tables as table_text
from englishroom.emit.prelude import loading, talking
from englishroom.emit.source import TO_HEAR, WRITTEN, Verbatim
from englishroom.errors import ConfigError
from englishroom.ir import tokenizer as tokenizer_module
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import docstring
from englishroom.names import PROGRAM, TABLES
from englishroom.store import sha256
from englishroom.talkers.ngrams import attending, matching, mixing
from englishroom.talkers.ngrams.infini import InfiniTalker
from englishroom.talkers.ngrams.model_file import ngrams_to_bytes
from englishroom.talkers.ngrams.skip import SkipTalker
from englishroom.talkers.ngrams.talker import NgramTalker

MODULES = (mixing, matching, attending)
"""What the steps of programs call."""
READ = '''
def new_memory():
    """Return an empty memory: {memory}."""
    return []


def step(token, position, memory):
    """Read one token; return the log-probabilities of every token that may come next."""
    if token == TOKENIZER.start_id:
        memory.clear()
    memory.append(token)
'''
"""How every program begins to read a token."""
STEP = f"""{READ.format(memory="the last tokens of the story")}\
    del memory[: max(0, len(memory) - len(NGRAMS) + 1)]
    chances = UNIGRAMS
    for length in range(1, len(memory) + 1):  # the longer the context, the more it has to say
        place = find(NGRAMS, memory[-length:])
        if place is None:
            break
        chances = mix(chances, NGRAMS[length], place)
    return list(map(math.log, chances))
"""
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
SKIP_STEP = f"""{READ.format(memory="the last tokens of the story")}\
    del memory[: max(0, len(memory) - WINDOW - 1)]
    chances = mix(UNIGRAMS, NGRAMS[1], token)
    return list(map(math.log, attend(chances, SKIPS, memory)))
"""


def emit_ngrams(talker: NgramTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    model = talker.model
    sizes = [f"{len(level.tokens):,} of {length}" for length, level in enumerate(model.levels, 1)]
    about = f"{model.d_vocab:,} tokens; n-grams by length: {', '.join(sizes)}."
    guide = [
        "To read it, begin at step(): it takes one token and says how likely every next token is. It begins with how",
        "common each token is, and asks ever longer contexts, as far back as the text had them, what came after them.",
        "NGRAMS has, by length: where the n-grams that begin alike begin, their last tokens, their counts (of the",
        "longest, how often they occur; of shorter ones, how many different tokens stand before them), and discounts.",
    ]
    how, calls = " and smoothed (modified Kneser-Ney)", ("find", "mix", "rows")
    _write(out, talker, ngrams_to_bytes(talker), guide, STEP, calls, _ngram_definitions(talker), how, [about])


def emit_infini(talker: InfiniTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: the base is no n-gram talker, or there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    base = talker.base
    if not isinstance(base, NgramTalker):
        raise ConfigError(f"{talker.name}: only what builds on n-grams can be written as a program; fit it on n-grams")
    guide = [
        "To read it, begin at step(): it takes one token and says how likely every next token is. It asks the n-grams",
        "(NGRAMS) first, then looks for the longest ending of the story that occurs anywhere in the text (TOKENS),",
        "and asks what came after it there. PLACES are all places of the text, sorted by what stands before them.",
        "WEIGHTS says how far the text is trusted: by length of the match, from SHORTEST on, and by how often it",
        "occurred (once, 2-3 times, 4-7 times ...).",
    ]
    definitions = [
        *_ngram_definitions(base),
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
    _write(out, talker, _tables(base, own), guide, INFINI_STEP, calls, definitions)


def emit_skip(talker: SkipTalker, out: Path) -> None:
    """Write ``program.py`` and ``tables.safetensors`` into a new folder, or an empty one; whole or not at all.

    Raises:
        ConfigError: there is something at ``out`` already.
        ArtifactError: the folder cannot be written.
    """
    guide = [
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
    definitions = [*_ngram_definitions(talker.bigrams), f"WINDOW = {talker.window}", "SKIPS = (", *lines, ")"]
    calls = ("mix", "attend", "rows", "numbers")
    _write(out, talker, _tables(talker.bigrams, own), guide, SKIP_STEP, calls, definitions)


def _ngram_definitions(talker: NgramTalker) -> list[str]:
    """Spell ``NGRAMS`` and ``UNIGRAMS`` as n-gram programs have them."""
    first, *others = talker.model.levels
    levels = [f'    ((0, D_VOCAB), range(D_VOCAB), rows("counts_1"), {first.discounts}),']
    for length, level in enumerate(others, 2):
        parts = ", ".join(f'rows("{part}_{length}")' for part in ("starts", "tokens", "counts"))
        levels += [f"    ({parts},", f"     {level.discounts}),"]
    return ["NGRAMS = (", *levels, ")", "UNIGRAMS = mix([1 / D_VOCAB] * D_VOCAB, NGRAMS[0], 0)"]


def _tables(base: NgramTalker, own: dict[str, NDArray[np.generic]]) -> bytes:
    arrays = safetensors.numpy.load(ngrams_to_bytes(base)) | own
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _write(
    out: Path,
    talker: NgramTalker | InfiniTalker | SkipTalker,
    tables: bytes,
    guide: Sequence[str],
    step: str,
    calls: Sequence[str],
    definitions: Sequence[str],
    how: str = "",
    about: Sequence[str] = (),
) -> None:
    title = f"A program that talks: {talker.name}, counted on a text{how}."
    text = f"sha256 of the text: {talker.text_sha256 or 'not known'}."
    header = [title, "", WRITTEN, *about, text, "", *guide]
    defined, hashed = "\n".join(definitions), sha256(tables)
    program = spell_program(header, step, calls, defined, talker.tokenizer, talker.n_ctx, hashed)
    write_folder(out, {PROGRAM: program.encode(), TABLES: tables})


def spell_program(
    header: Sequence[str],
    step: str,
    calls: Iterable[str],
    definitions: str,
    tokenizer: Tokenizer,
    n_ctx: int,
    tables_sha256: str,
) -> str:
    """Write a program that talks: a step of its own, and all that emitted programs share.

    Args:
        header: lines of its docstring.
        step: code of ``new_memory`` and ``step``, which needs ``math``.
        calls: functions that ``step`` and ``definitions`` call.
        definitions: code that makes what ``step`` reads from ``TABLES``.
    """
    shared = (talking, tokenizer_module, loading)
    verbatim = Verbatim((*MODULES, *shared))
    needed = verbatim.needed({"main", "log_probs", "talk", "Tokenizer", "numbers", "load_tables", *calls})
    texts = {name: verbatim.pieces[name][0] for name in needed}

    def copied(*sources: ModuleType) -> str:
        return "".join(f"\n\n{text}\n" for name, text in texts.items() if verbatim.module_of[name] in sources)

    return "\n".join(
        [
            docstring([*header, "", *TO_HEAR]) + "\n",
            *verbatim.imports_of([*texts.values(), step]),
            f"\nN_CTX = {n_ctx}\nD_VOCAB = {len(tokenizer.pieces)}\n",
            "\n# 1. How it thinks, one token at a time" + f"\n{step}{copied(*MODULES)}",
            "\n# 2. How it talks" + copied(talking),
            "\n# 3. Its tokenizer" + copied(tokenizer_module),
            "\n# 4. Its tables, which stand in tables.safetensors" + copied(loading),
            table_text.tokenizer_literal(tokenizer),
            f'\nTABLES = load_tables(__file__, "{tables_sha256}")\n{definitions}\nTABLES.clear()\n',
            'if __name__ == "__main__":\n    main()\n',
        ]
    )
